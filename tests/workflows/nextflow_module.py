"""Reads a Nextflow module and writes what a test runs, with stand-ins for Groovy's variables.

    nextflow_module.py check MODULE_FOLDER
    nextflow_module.py outputs MODULE_FOLDER
    nextflow_module.py version MODULE_FOLDER
    nextflow_module.py script|stub MODULE_FOLDER NAME=VALUE...

check compares meta.yml, environment.yml and the test with main.nf. outputs prints EMIT, the pattern
of each file output and whether it is optional, with tabs between. version prints the command behind eval(). script and stub print the bash of
the block; NAME is such as meta.id, task.cpus, task.ext.args, or an input. Only the Groovy that modules of
this kind are made of is understood: anything else is an error.
"""

import re
import sys

import yaml

STRING = r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\''


class Module:
    def __init__(self, folder):
        self.folder = folder
        with open(f"{folder}/main.nf", encoding="utf-8") as file:
            self.text = file.read()
        whole = re.fullmatch(r"process (\w+) \{\n(.*)\n\}\n", self.text, re.S)
        assert whole, "one process and nothing else"
        self.name, body = whole.groups()
        parts = re.split(r"^    (input|output|when|script|stub):\n", body, flags=re.M)
        assert parts[1::2] == ["input", "output", "when", "script", "stub"], parts[1::2]
        self.directives = parts[0]
        self.optional = set()  # emitted names, once outputs() was asked
        self.blocks = dict(zip(parts[1::2], parts[2::2]))

    def lines(self, block):
        return [line.strip() for line in self.blocks[block].splitlines() if line.strip()]

    def elements(self, line):
        """[(kind, text)] of val(), path() and eval() of a declaration, and what follows them."""
        line = re.sub(r"^tuple ", "", line)
        found, rest = [], line
        pattern = rf"\s*(val|path|eval)(?:\((?:{STRING}|(\w+))\)| (\w+))\s*(?:,|$)"
        while match := re.match(pattern, rest):
            kind, *texts = match.groups()
            found.append((kind, next(text for text in texts if text is not None)))
            rest = rest[match.end():]
        return found, rest.strip()

    def inputs(self):
        """[(whether a tuple, [(kind, text)])]"""
        channels = []
        for line in self.lines("input"):
            found, rest = self.elements(line)
            assert found and not rest, line
            channels.append((line.startswith("tuple "), found))
        return channels

    def outputs(self):
        """{emit: [(kind, text)]}, {topic: [[(kind, text)]]}"""
        emits, topics = {}, {}
        for line in self.lines("output"):
            found, rest = self.elements(line)
            options = dict(re.fullmatch(r"(\w+): (\w+)", part.strip()).groups() for part in rest.split(","))
            assert set(options) <= {"emit", "topic", "optional"} and options["emit"] not in emits, line
            if options.get("optional") == "true":
                self.optional.add(options["emit"])
            emits[options["emit"]] = found
            if "topic" in options:
                topics.setdefault(options["topic"], []).append(found)
        return emits, topics

    def bash(self, block, values):
        match = re.fullmatch(r'(.*?)    """\n(.*?)    """\n*', self.blocks[block], re.S)
        assert match, f"{block}: definitions and one string"
        values = dict(values)
        for line in match.group(1).splitlines():
            if line.strip():
                define(line.strip(), values)
        # The margin of the block, then Groovy's escapes and variables.
        script = "".join(re.sub(r"^    ", "", line) for line in match.group(2).splitlines(keepends=True))
        return interpolate(script, values)


def lookup(name, values):
    assert name in values, f"'{name}' is not defined here"
    return values[name]


def interpolate(text, values):
    def replace(match):
        escaped, braces, plain = match.groups()
        if escaped is not None:
            assert escaped in '\\$"', f"escape \\{escaped}"
            return escaped
        return lookup(braces or plain, values)

    assert not re.search(r"\$\{(?![\w.]+\})", text), f"more than a name in ${{}}: {text}"
    return re.sub(r"\\(.)|\$\{([\w.]+)\}|\$([A-Za-z_][\w.]*)", replace, text)


def define(line, values):
    if match := re.fullmatch(rf"if \((?:{STRING}) == (?:{STRING})\) error (?:{STRING})", line):
        left, _, right, _, message, _ = match.groups()
        if interpolate(left, values) == interpolate(right, values):
            sys.exit(f"error: {interpolate(message, values)}")
        return
    match = re.fullmatch(rf"def (\w+) = ([\w.]+) (\?:|\?) (?:{STRING})(?: : '')?", line)
    assert match and (match[3] == "?") == line.endswith(" : ''"), f"not understood: {line}"
    name, condition, operator, double, single = match.groups()
    value = lookup(condition, values)
    text = single if double is None else interpolate(double, values)
    values[name] = (value or text) if operator == "?:" else (text if value else "")


def keys(channel):
    """Names in a channel of meta.yml, and the type of each."""
    elements = channel if isinstance(channel, list) else [channel]
    return [next(iter(e)) for e in elements], [next(iter(e.values()))["type"] for e in elements]


def check(module, folder):
    name = folder.rstrip("/").rsplit("/", 1)[1]
    assert module.name == f"M5_{name.upper()}"
    for needed in ('tag "$meta.id"', "label 'process_", 'conda "${moduleDir}/environment.yml"', 'container "'):
        assert needed in module.directives, f"no {needed}"
    assert module.lines("when") == ["task.ext.when == null || task.ext.when"]
    with open(f"{folder}/meta.yml", encoding="utf-8") as file:
        meta = yaml.safe_load(file)
    assert meta["name"] == f"m5_{name}"
    for field in ("description", "keywords", "tools", "authors", "maintainers"):
        assert meta[field], field
    assert len(meta["keywords"]) >= 3
    for description in meta["tools"][0].values():
        assert {"description", "homepage", "documentation", "licence"} <= set(description)
    # Inputs: the same names in the same channels; maps are val, files are path.
    types = {"val": ("map", "string"), "path": ("file", "directory"), "eval": ("eval",)}

    def same(described, declared, what):
        names, kinds = keys(described)
        assert names == [text for _, text in declared], f"{what}: {names}"
        for kind, (wanted, _) in zip(kinds, declared):
            assert kind in types[wanted], f"{what}: {kind}"

    for described, (is_tuple, declared) in zip(meta["input"], module.inputs(), strict=True):
        assert isinstance(described, list) == is_tuple, f"{described}: tuple or not"
        same(described, declared, "input")
    emits, topics = module.outputs()
    assert list(meta["output"]) == list(emits), "emitted names differ"
    for emit, declared in emits.items():
        assert len(meta["output"][emit]) == 1, emit
        same(meta["output"][emit][0], declared, emit)
    assert list(meta["topics"]) == list(topics) == ["versions"]
    for described, declared in zip(meta["topics"]["versions"], topics["versions"], strict=True):
        same(described, declared, "topic versions")
    with open(f"{folder}/environment.yml", encoding="utf-8") as file:
        text = file.read()
    assert "# yaml-language-server: $schema=" in text
    environment = yaml.safe_load(text)
    assert environment["channels"] == ["conda-forge", "bioconda"]
    (package,) = environment["dependencies"]
    version = re.fullmatch(r"bioconda::m5=([0-9.]+)", package)[1]
    assert module.directives.count(f"m5:{version}--") == 2, "container and environment differ"
    with open(f"{folder}/tests/main.nf.test", encoding="utf-8") as file:
        test = file.read()
    assert f'process "{module.name}"' in test and 'script "../main.nf"' in test and 'options "-stub"' in test
    for opening, closing in ("{}", "()", "[]"):
        assert test.count(opening) == test.count(closing), f"{opening}{closing} in the test"
        assert module.text.count(opening) == module.text.count(closing), f"{opening}{closing} in main.nf"
    # Both tests hand over as many channels as there are inputs.
    for body in test.split("    test(")[1:]:
        assert re.findall(r"^ +input\[(\d)\]", body, re.M) == [str(i) for i in range(len(module.inputs()))]


def main():
    command, folder, *settings = sys.argv[1:]
    module = Module(folder)
    if command == "check":
        check(module, folder)
    elif command == "outputs":
        for emit, found in module.outputs()[0].items():
            for kind, text in found:
                if kind == "path":
                    print(f"{emit}\t{text}\t{'optional' if emit in module.optional else ''}")
    elif command == "version":
        print(dict(module.outputs()[0]["versions_m5"])["eval"])
    else:
        print(module.bash(command, dict(setting.split("=", 1) for setting in settings)), end="")


if __name__ == "__main__":
    main()
