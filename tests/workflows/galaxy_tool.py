#!/usr/bin/env python3
"""galaxy_tool.py TOOL.xml: runs the tests of a Galaxy tool with the m5 on the PATH, as Galaxy would.

Macros are expanded, parameters get their defaults and what a test sets, Cheetah fills the command, bash runs it in an
empty folder, and the outputs are held against the assertions. One line a test; exit code 1 when one failed."""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

from Cheetah.Template import Template


class Value(str):
    """A parameter as a template sees it: its text, and for files their name in the history."""

    element_identifier = property(lambda self: os.path.basename(self))

    def __bool__(self):
        return len(self) > 0


class Group(dict):
    def __getattr__(self, name):
        return self[name]


def load(path):
    root = ElementTree.parse(path).getroot()
    imported = root.find("macros/import").text
    macros = ElementTree.parse(os.path.join(os.path.dirname(path), imported)).getroot()
    tokens = {token.get("name"): token.text for token in macros.findall("token")}
    parts = {part.get("name"): list(part) for part in macros.findall("xml")}
    used = set()

    def expand(parent):
        for at, child in reversed(list(enumerate(parent))):
            if child.tag == "expand":
                used.add(child.get("macro"))
                parent[at:at + 1] = parts[child.get("macro")]
        for child in parent:
            expand(child)

    expand(root)
    for name, text in tokens.items():
        for element in root.iter():
            element.text = element.text and element.text.replace(name, text)
            for key, value in element.attrib.items():
                element.set(key, value.replace(name, text))
    if used != set(parts):
        sys.exit(f"{path}: macros that are not used: {set(parts) - used}")
    return root


def default(parameter):
    options = parameter.findall("option")
    chosen = [option for option in options if option.get("selected") == "true"] or options[:1]
    return chosen[0].get("value") if options else parameter.get("value", "")


def check_value(parameter, value):
    options = [option.get("value") for option in parameter.findall("option")]
    if options and value not in options:
        raise ValueError(f"{parameter.get('name')}: {value} is no option")
    if parameter.get("type") == "data" and value and not os.path.exists(value):
        raise ValueError(f"{value} is not there")


def name_of(parameter):
    return parameter.get("name") or parameter.get("argument").lstrip("-").replace("-", "_")


def values(inputs, given, data):
    """The parameters of a test, with its own names."""
    result = Group()
    known = set()
    for element in inputs:
        if element.tag == "conditional":
            chosen = given.find(f"conditional[@name='{element.get('name')}']")
            chosen = ElementTree.Element("conditional") if chosen is None else chosen
            switch = element.find("param")
            group = values([switch], ElementTree.Element("x"), data)
            set_to = chosen.find(f"param[@name='{name_of(switch)}']")
            if set_to is not None:
                group[name_of(switch)] = Value(set_to.get("value"))
            branch = [when for when in element.findall("when") if when.get("value") == group[name_of(switch)]][0]
            rest = ElementTree.Element("conditional")
            rest.extend(p for p in chosen if p.get("name") != name_of(switch))
            group.update(values(branch, rest, data))
            result[element.get("name")] = group
            known.add(element.get("name"))
        elif element.tag == "param":
            name = name_of(element)
            set_to = given.find(f"param[@name='{name}']")
            value = default(element) if set_to is None else set_to.get("value")
            if element.get("type") == "data" and value:
                value = os.path.join(data, value)
            check_value(element, value)
            result[name] = Value(value)
            known.add(name)
    for element in given:
        if element.tag in ("param", "conditional") and element.get("name") not in known:
            raise ValueError(f"the test sets {element.get('name')}, which is not there")
    return result


def check_output(path, output, formats):
    if output.get("ftype") not in formats:
        yield f"{output.get('name')}: format {output.get('ftype')}, which it never has"
    with open(path, "rb") as file:
        raw = file.read()
    lines = raw.decode("utf-8", "replace").splitlines()
    asked = list(output.find("assert_contents"))
    for item in asked:
        if item.tag == "has_line_matching":
            expression = item.get("expression").replace("\\t", "\t")
            good = any(re.fullmatch(expression, line) for line in lines)
        elif item.tag == "has_n_lines":
            good = len(lines) >= int(item.get("min"))
        elif item.tag == "has_size":
            good = len(raw) >= int(item.get("min"))
        else:
            good = False
        if not good:
            yield f"{output.get('name')}: not {item.tag} {dict(item.attrib)}"
    if not asked:
        yield f"{output.get('name')}: nothing is asked of it"


def run(tool, test, data):
    with tempfile.TemporaryDirectory() as folder:
        names = values(tool.find("inputs"), test, data)
        paths, formats = {}, {}
        for output in tool.find("outputs"):
            name = output.get("name")
            paths[name] = os.path.join(folder, output.get("from_work_dir") or f"{name}.dat")
            formats[name] = {output.get("format")} | {when.get("format") for when in output.iter("when")}
            names[name] = Value(paths[name])
        command = str(Template(tool.find("command").text, searchList=[dict(names)]))
        command = " ".join(command.split())
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "GALAXY_SLOTS": "2"})
        if done.returncode != 0:
            return [f"exit {done.returncode}: {done.stderr.strip()}\n  {command}"]
        if int(test.get("expect_num_outputs")) != sum(os.path.exists(path) for path in paths.values()):
            return ["another number of outputs"]
        return [fault for output in test.findall("output")
                for fault in check_output(paths[output.get("name")], output, formats[output.get("name")])]


def main():
    path = os.path.abspath(sys.argv[1])
    tool = load(path)
    missing = [part for part in ("description", "requirements", "version_command", "help", "citations")
               if tool.find(part) is None]
    if missing:
        sys.exit(f"{path}: without {missing}")
    failed = 0
    tests = tool.find("tests").findall("test")
    for number, test in enumerate(tests, 1):
        try:
            faults = run(tool, test, os.path.join(os.path.dirname(path), "test-data"))
        except (ValueError, KeyError) as error:
            faults = [str(error)]
        failed += bool(faults)
        print(f"{tool.get('id')} test {number}: {'; '.join(faults) or 'passed'}")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
