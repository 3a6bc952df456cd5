#!/usr/bin/env python3
"""A release: the source archive, its SHA-256, and the conda recipe that names both.

  make_release.py [--ref HEAD] [--url URL] [--home URL] [-o dist]

writes m5-VERSION.tar.gz, m5-VERSION.tar.gz.sha256 and m5/ (the recipe) into the folder. The archive holds what the
commit holds, in the order of names, owned by nobody, with the time of the commit: the same bytes for the same commit,
whoever makes it, where and when. Neither git's own archives, whose compression has changed, nor tar and gzip are used.
--url is where the archive will lie ({version} stands for the version), --home where the project is.
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile


def git(*arguments, data=None):
    return subprocess.run(["git", *arguments], input=data, stdout=subprocess.PIPE, check=True).stdout


def entries(ref):
    """(name, mode, content) of every file of a commit or tree, in the order of names."""
    listing = git("ls-tree", "-r", "-z", "--full-tree", ref).decode()
    for line in sorted(filter(None, listing.split("\0")), key=lambda line: line.split("\t", 1)[1]):
        about, name = line.split("\t", 1)
        mode, kind, identity = about.split()
        if kind != "blob":
            sys.exit(f"make_release.py: {name} is a {kind}, which an archive cannot hold")
        yield name, mode, git("cat-file", "blob", identity)


def commit_time(ref):
    if git("cat-file", "-t", ref).decode().strip() == "commit":
        return int(git("show", "-s", "--format=%ct", ref).decode().split()[-1])
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))  # a tree has no time


def archive(ref, prefix, time):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode, content in entries(ref):
            item = tarfile.TarInfo(f"{prefix}/{name}")
            item.mtime = time
            if mode == "120000":
                item.type, item.linkname = tarfile.SYMTYPE, content.decode()
                tar.addfile(item)
                continue
            item.mode, item.size = 0o755 if mode == "100755" else 0o644, len(content)
            tar.addfile(item, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=time) as out:
        out.write(raw.getvalue())
    return packed.getvalue()


def once(text, old, new, what):
    if text.count(old) != 1:
        sys.exit(f"make_release.py: conda-recipe/meta.yaml: {what}: '{old.strip()}' is not there once")
    return text.replace(old, new)


def recipe(text, url, digest, home):
    text = once(text, "  path: ..\n", f"  url: {url}\n  sha256: {digest}\n", "source")
    text = re.sub(r"(?m)^  # (A release has|builds itself|make_release).*\n", "", text)
    if home:
        text = re.sub(r"(?m)^  home: .*$", f"  home: {home}", text)
        text = re.sub(r"(?m)^  dev_url: .*$", f"  dev_url: {home}", text)
        text = re.sub(r"(?m)^  doc_url: .*$", f"  doc_url: {home}", text)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ref", default="HEAD", help="commit, tag or tree [HEAD]")
    parser.add_argument("--url", help="where the archive will lie [that of this folder]")
    parser.add_argument("--home", help="address of the project, for the recipe")
    parser.add_argument("-o", "--output", default="dist", help="folder [dist]")
    options = parser.parse_args()

    os.makedirs(options.output, exist_ok=True)
    folder = os.path.abspath(options.output)
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    cmake = git("show", f"{options.ref}:CMakeLists.txt").decode()
    version = re.search(r"project\(m5 VERSION ([0-9.]+)", cmake).group(1)
    meta = git("show", f"{options.ref}:conda-recipe/meta.yaml").decode()
    if f'{{% set version = "{version}" %}}' not in meta:
        sys.exit(f"make_release.py: conda-recipe/meta.yaml has another version than CMakeLists.txt ({version})")

    name = f"m5-{version}.tar.gz"
    data = archive(options.ref, f"m5-{version}", commit_time(options.ref))
    digest = hashlib.sha256(data).hexdigest()
    url = (options.url or f"file://{folder}/m5-{{version}}.tar.gz").replace("{version}", "{{ version }}")
    os.makedirs(os.path.join(folder, "m5"), exist_ok=True)

    def write(path, content):
        with open(os.path.join(folder, path), "wb") as file:
            file.write(content)

    write(name, data)
    write(f"{name}.sha256", f"{digest}  {name}\n".encode())
    write("m5/meta.yaml", recipe(meta, url, digest, options.home).encode())
    for script in ("build.sh", "run_test.sh"):
        write(f"m5/{script}", git("show", f"{options.ref}:conda-recipe/{script}"))
    print(f"{name}: {len(data)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
