#!/usr/bin/env python3
"""lint_recipe.py FOLDER/meta.yaml: what Bioconda's lints ask and can be seen without a network. Prints each fault.
lint_recipe.py --commands FOLDER/meta.yaml: the commands of the recipe's test, one a line."""

import os
import re
import sys

import jinja2
import yaml

COMPILERS = {"gcc", "llvm", "libgfortran", "libgcc", "gxx_linux-64", "clang", "clangxx", "toolchain"}
NAMES = {"cxx": "gxx_linux-64", "c": "gcc_linux-64"}


def render(text, system="linux"):
    """The recipe as conda-build on Linux reads it."""
    lines = []
    for line in text.splitlines():
        selector = re.search(r"#\s*\[(.+)\]\s*$", line)
        names = {"win": False, "osx": system == "osx", "linux": system == "linux"}
        if selector and not eval(selector.group(1), {"__builtins__": {}}, names):  # a line of our own recipe
            continue
        lines.append(line)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return environment.from_string("\n".join(lines)).render(
        compiler=lambda language: NAMES[language],
        stdlib=lambda language: f"sysroot_{language}",
        pin_subpackage=lambda name, max_pin="x": f"{name} ={max_pin}",
        os=os,
    )


def faults(text, folder):
    recipe = yaml.safe_load(render(text))
    about, build, test = recipe.get("about", {}), recipe.get("build", {}), recipe.get("test", {})
    source, extra, requirements = recipe.get("source", {}), recipe.get("extra", {}), recipe.get("requirements", {})
    name, version = recipe["package"]["name"], str(recipe["package"]["version"])

    if not build.get("run_exports"):
        yield "missing_run_exports"
    elif name not in str(build["run_exports"]) or ("x.x" in str(build["run_exports"])) != version.startswith("0."):
        yield "run_exports: pin x.x while the version is 0.x, x from 1.0 on"
    if "number" not in build:
        yield "missing_build_number"
    for key in ("home", "summary", "license", "dev_url", "doc_url"):
        if not about.get(key):
            yield f"missing_{key}"
    if len(about.get("summary", "")) > 120:
        yield "summary is longer than 120 characters"
    if "LICENSE" not in about.get("license_file", []) or "THIRD_PARTY.md" not in about.get("license_file", []):
        yield "license_file: LICENSE and the notices of third parties"
    if not (test.get("commands") or test.get("imports")):
        yield "missing_tests"
    if not re.fullmatch(r"[0-9a-f]{64}", str(source.get("sha256", ""))):
        yield "missing_hash"
    if "git_url" in source or "hg_url" in source or not re.search(r"\.tar\.(gz|bz2|xz)$", str(source.get("url", ""))):
        yield "uses_vcs_url, or no archive"
    elif version not in source["url"] or "{{ version }}" not in text[text.index("source:"):text.index("\nbuild:")]:
        yield "the url does not follow the version"
    if folder != name or not re.fullmatch(r"[a-z0-9._-]+", name):
        yield "folder_and_package_name_must_match"
    if version.startswith("v"):
        yield "version_starts_with_v"
    for identifier in extra.get("identifiers", []):
        if not re.fullmatch(r"(doi|biotools|usegalaxy-eu):\S+", identifier):
            yield f"extra_identifiers: {identifier} is not type:value"
    if not extra.get("recipe-maintainers"):
        yield "no recipe-maintainers"
    for platform in extra.get("additional-platforms", []):
        if platform not in ("linux-aarch64", "osx-arm64"):
            yield f"additional-platforms: {platform}"
    where = {part: [str(line) for line in requirements.get(part) or []] for part in ("build", "host", "run")}
    if "gxx_linux-64" not in where["build"] or "gxx_linux-64" in where["host"] + where["run"]:
        yield "compilers_must_be_in_build"
    if not any(line.startswith("sysroot_") for line in where["build"]):
        yield "compiler_needs_stdlib_c"
    if any(line.split()[0] in COMPILERS - {"gxx_linux-64"} for lines in where.values() for line in lines):
        yield "should_use_compilers"
    if "{{ compiler(" not in text or "{{ stdlib(" not in text:
        yield "compiler and stdlib are to be asked for, not named"
    for line in sum(where.values(), []):
        if not re.fullmatch(r"[a-z0-9_.-]+( [><=!0-9.*,]+)?", line):
            yield f"requirement '{line}' is not a name and a version"
    if re.search(r"march=native|-mtune=native", text):
        yield "code for the machine that builds it"


def main():
    path = sys.argv[-1]
    with open(path) as file:
        text = file.read()
    if sys.argv[1] == "--commands":
        print("\n".join(yaml.safe_load(render(text))["test"]["commands"]))
        return 0
    found = [fault for fault in faults(text, os.path.basename(os.path.dirname(os.path.abspath(path))))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
