# Toolchain: Linux on aarch64, built with Debian's cross compiler against libraries of that
# architecture unpacked in a folder (tests/packaging/aarch64.sh makes one):
#   cmake -DCMAKE_TOOLCHAIN_FILE=share/cmake/aarch64.cmake -DM5_SYSROOT=FOLDER ...
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES M5_SYSROOT)

# Headers and libraries of the C library come with the compiler; all others from the folder.
set(m5_cross_lib ${M5_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH ${M5_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${M5_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${m5_cross_lib}/pkgconfig:${M5_SYSROOT}/usr/share/pkgconfig)
string(APPEND CMAKE_CXX_FLAGS_INIT " -isystem ${M5_SYSROOT}/usr/include -isystem ${M5_SYSROOT}/usr/include/aarch64-linux-gnu")
string(APPEND CMAKE_EXE_LINKER_FLAGS_INIT " -L${m5_cross_lib} -Wl,-rpath-link,${m5_cross_lib}:${M5_SYSROOT}/lib/aarch64-linux-gnu")
string(APPEND CMAKE_SHARED_LINKER_FLAGS_INIT " -L${m5_cross_lib} -Wl,-rpath-link,${m5_cross_lib}:${M5_SYSROOT}/lib/aarch64-linux-gnu")

set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${M5_SYSROOT})
