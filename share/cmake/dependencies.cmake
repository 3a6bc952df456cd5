# What m5 needs. Only installed packages are used; nothing is fetched. share/setup/packages.sh has the
# apt names. The minimum versions are those of Debian 12, the oldest that is tested; README.md and
# conda-recipe/meta.yaml repeat them (tests/checks/check_dependencies.sh).

# m5_minimum(NAME MINIMUM FOUND [PLACE]): ends the configuration where a dependency is too old.
function(m5_minimum name minimum found)
  if(found VERSION_LESS minimum)
    message(FATAL_ERROR "m5 needs ${name} ${minimum} or newer; found '${found}' ${ARGN}")
  endif()
endfunction()

# std::stop_token: libc++ before version 20 has it behind a flag.
include(CheckCXXSourceCompiles)
set(m5_stop_token "#include <stop_token>\nint main() { return std::stop_source().stop_requested(); }")
check_cxx_source_compiles("${m5_stop_token}" M5_HAS_STOP_TOKEN)
if(NOT M5_HAS_STOP_TOKEN)
  set(CMAKE_REQUIRED_FLAGS -fexperimental-library)
  check_cxx_source_compiles("${m5_stop_token}" M5_HAS_EXPERIMENTAL_STOP_TOKEN)
  unset(CMAKE_REQUIRED_FLAGS)
  if(NOT M5_HAS_EXPERIMENTAL_STOP_TOKEN)
    message(FATAL_ERROR "m5 needs a standard library with std::stop_token: libstdc++ 10 or libc++ 18")
  endif()
  add_compile_options(-fexperimental-library)
  add_link_options(-fexperimental-library)
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HTSLIB REQUIRED IMPORTED_TARGET htslib)
m5_minimum(htslib 1.16 "${HTSLIB_VERSION}" "${HTSLIB_LIBDIR}")
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
m5_minimum(Highway 1.0.3 "${HWY_VERSION}" "${HWY_LIBDIR}")
find_package(ZLIB REQUIRED)
m5_minimum(zlib 1.2.13 "${ZLIB_VERSION_STRING}" "${ZLIB_INCLUDE_DIRS}")
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
m5_minimum(OpenSSL 3.0 "${OPENSSL_VERSION}" "${OPENSSL_INCLUDE_DIR}")
find_package(CLI11 REQUIRED)
m5_minimum(CLI11 2.1.2 "${CLI11_VERSION}" "${CLI11_DIR}")
find_package(nlohmann_json REQUIRED)
m5_minimum(nlohmann_json 3.11.2 "${nlohmann_json_VERSION}" "${nlohmann_json_DIR}")

# oneDNN's own CMake package asks for OpenCL on Debian, which m5 never uses: header and library are
# enough.
find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
file(STRINGS ${DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h m5_dnnl_version
     REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
string(REGEX REPLACE "[^0-9;]" "" m5_dnnl_version "${m5_dnnl_version}")
string(REPLACE ";" "." m5_dnnl_version "${m5_dnnl_version}")
m5_minimum(oneDNN 2.6.3 "${m5_dnnl_version}" "${DNNL_INCLUDE_DIR}")
add_library(m5_dnnl INTERFACE)
target_include_directories(m5_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(m5_dnnl INTERFACE ${DNNL_LIBRARY})

# libBigWig has neither a CMake package nor, on Debian, a .pc file.
find_path(BIGWIG_INCLUDE_DIR bigWig.h REQUIRED)
find_library(BIGWIG_LIBRARY BigWig REQUIRED)
file(STRINGS ${BIGWIG_INCLUDE_DIR}/bigWig.h m5_bigwig_version REGEX "define LIBBIGWIG_VERSION ")
string(REGEX REPLACE ".* " "" m5_bigwig_version "${m5_bigwig_version}")
m5_minimum(libBigWig 0.4.7 "${m5_bigwig_version}" "${BIGWIG_INCLUDE_DIR}")
add_library(m5_bigwig INTERFACE)
target_include_directories(m5_bigwig SYSTEM INTERFACE ${BIGWIG_INCLUDE_DIR})
target_link_libraries(m5_bigwig INTERFACE ${BIGWIG_LIBRARY})

set(m5_python_summary "off (M5_PYTHON=OFF)")
if(M5_PYTHON)
  find_package(Python 3.9 REQUIRED COMPONENTS Interpreter Development.Module)
  find_package(pybind11 REQUIRED CONFIG)
  m5_minimum(pybind11 2.10.3 "${pybind11_VERSION}" "${pybind11_DIR}")
  set(m5_python_summary "${Python_VERSION} (${Python_EXECUTABLE}), pybind11 ${pybind11_VERSION}")
endif()

if(M5_TESTS)
  find_package(GTest REQUIRED)
  m5_minimum(GoogleTest 1.12.1 "${GTest_VERSION}" "${GTest_DIR}")
endif()
