"""Names to methods: lazy, by file name; plug-ins; what is broken or taken stops nothing else."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mtlbench
from mtlbench.catalogue import building, registry
from mtlbench.errors import UsageError

METHODS = ["gradnorm", "gradvac", "mgda", "pcgrad", "scalarization", "single_task", "uniform"]


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Every test starts from the built-in entries and leaves no trace."""
    for name in METHODS:  # a module that is imported already does not register again
        registry.methods.load(name)
    for known in (registry.methods, registry.tasks):
        monkeypatch.setattr(known, "_entries", dict(known.entries()))
    monkeypatch.setattr(registry, "broken_plugins", {})
    monkeypatch.setattr(registry, "_loaded_plugins", set())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mtlbench_plugin_"):
            del sys.modules[name]


def plugin(folder, name, body):
    file = folder / f"{name}.py"
    file.write_text(textwrap.dedent(body))
    return file


DOUBLE = '''
    """Twice the sum. And more about it."""
    import mtlbench

    @mtlbench.register_method("{name}", paper="arXiv:0000.00000")
    class Double(mtlbench.LossWeighting):
        def __init__(self, factor: float = 2.0):
            super().__init__()
            self.factor = factor

        def scalarize(self, losses):
            return self.factor * losses.sum()
'''


def test_built_in_entries_are_the_files_and_folders_with_their_first_sentence():
    entries = registry.methods.entries()
    assert [name for name in sorted(entries) if name in METHODS] == METHODS
    assert entries["gradvac"].origin.endswith("gradvac.py")
    assert entries["gradvac"].summary.startswith("Gradient Vaccine: pulls each pair of gradients")
    assert entries["gradvac"].paper == "Wang et al., ICLR 2021, arXiv:2010.05874"
    assert "multimnist" in registry.tasks.entries()
    assert registry.tasks.entry("multimnist").protocols.name == "protocols.yaml"


def test_a_method_says_its_role_before_it_is_imported():
    roles = {name: registry.methods.entry(name).role for name in METHODS}
    assert roles == dict.fromkeys(METHODS, "method") | {
        "uniform": "baseline",
        "single_task": "reference",
        "scalarization": "static",
    }
    peeked = registry.Registry("method", "mtlbench.methods").entries()
    assert {name: peeked[name].role for name in METHODS} == roles
    assert all(peeked[name].cls is None for name in METHODS)
    assert (registry.holder("baseline"), registry.holder("reference")) == ("uniform", "single_task")


def test_a_name_that_is_not_installed_has_the_role_of_a_method(tmp_path):
    assert registry.role("of_another_machine") == "method"
    assert registry.role("uniform") == "baseline"
    body = DOUBLE.format(name="double").replace('paper="arXiv:0000.00000"', 'role="static"')
    registry.load_plugin(plugin(tmp_path, "mine", body))
    assert registry.role("double") == "static"


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("baseline", r"one baseline only: 'uniform' of .*uniform\.py, so 'double' of .*mine\.py cannot be it"),
        ("reference", r"one reference only: 'single_task' of .*single_task\.py, so 'double' of .*mine\.py"),
        ("basline", r"Unknown role of method double: 'basline'\. Did you mean 'baseline'\?"),
    ],
)
def test_a_second_baseline_or_reference_and_an_unknown_role_are_refused(tmp_path, role, reason):
    body = DOUBLE.format(name="double").replace('paper="arXiv:0000.00000"', f'role="{role}"')
    with pytest.raises(UsageError, match=reason):
        registry.load_plugin(plugin(tmp_path, "mine", body))
    assert "double" not in registry.methods.entries()


def test_listing_imports_neither_torch_nor_any_entry():
    script = (
        "import sys, mtlbench, mtlbench.catalogue.registry as r;"
        "names = sorted(r.methods.entries()) + sorted(r.tasks.entries());"
        "assert 'gradvac' in names and 'multimnist' in names;"
        "found = {m for m in sys.modules if m in ('torch', 'numpy', 'pydantic') or m.startswith('mtlbench.methods.')};"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_built_in_method_is_imported_by_its_file_name():
    cls = registry.methods.load("gradvac")
    assert cls.__module__ == "mtlbench.methods.gradvac"
    assert cls.name == "gradvac"
    assert isinstance(mtlbench.method("gradvac"), cls)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(
        UsageError, match=r"Unknown method 'gradvacc'\. Did you mean 'gradvac'\?.*mtlbench list methods"
    ):
        mtlbench.method("gradvacc")
    with pytest.raises(UsageError, match=r"Unknown task 'multimnst'\. Did you mean 'multimnist'"):
        building.task_class("multimnst")
    with pytest.raises(UsageError, match=r"Unknown parameter of gradvac: 'bet'\. Did you mean 'beta'"):
        mtlbench.method("gradvac", bet=1)


def test_a_plug_in_file_registers_its_method(tmp_path):
    file = plugin(tmp_path, "mine", DOUBLE.format(name="double"))
    registry.load_plugin(file)
    registry.load_plugin(str(file))  # a second time is no clash
    entry = registry.methods.entry("double")
    assert (entry.origin, entry.summary, entry.paper) == (str(file.resolve()), "Twice the sum", "arXiv:0000.00000")
    assert mtlbench.method("double", factor="3").factor == 3.0
    assert "double" in registry.methods.names()


def test_a_plug_in_may_register_a_task_with_protocols_as_data(tmp_path):
    body = """
        import mtlbench

        @mtlbench.register_task("playground", protocols={"default": {}})
        class Playground(mtlbench.Task):
            pass

        @mtlbench.register_task("filed")
        class Filed(mtlbench.Task):
            pass
    """
    registry.load_plugin(plugin(tmp_path, "playground", body))
    assert registry.tasks.entry("playground").protocols == {"default": {}}
    assert registry.tasks.entry("filed").protocols == tmp_path.resolve() / "protocols.yaml"
    assert building.task_class("playground").__name__ == "Playground"


@pytest.mark.parametrize("body", ["import nowhere_at_all", "def broken(:", "1 / 0"])
def test_a_broken_plug_in_is_named_with_its_error_and_stops_nothing_else(tmp_path, body):
    file = plugin(tmp_path, "bad", body)
    with pytest.raises(UsageError, match=r"The plug-in .*bad\.py cannot be used: \w+Error"):
        registry.load_plugin(file)
    assert list(registry.broken_plugins) == [str(file.resolve())]
    registry.load_plugin(plugin(tmp_path, "good", DOUBLE.format(name="double")))
    assert mtlbench.method("double").factor == 2.0
    assert mtlbench.method("gradvac").beta == 0.01
    file.write_text(textwrap.dedent(DOUBLE.format(name="mended")))
    registry.load_plugin(file)
    assert registry.broken_plugins == {}


ENDINGS = {
    "import sys; sys.exit()": "it ends the program when it is imported, with exit status None",
    "raise SystemExit(3)": "it ends the program when it is imported, with exit status 3",
    "import os; os._exit(0)": "it ends the program when it is imported, with exit status 0",
    "from os import _exit; _exit(1)": "it ends the program when it is imported, with exit status 1",
    "raise GeneratorExit": "it raises GeneratorExit:  when it is imported",
}


@pytest.mark.parametrize("body", ENDINGS)
def test_a_plug_in_that_ends_the_program_is_refused_and_the_program_goes_on(tmp_path, body):
    end = os._exit
    with pytest.raises(UsageError, match=rf"The plug-in .*bad\.py cannot be used: ImportError: {ENDINGS[body]}"):
        registry.load_plugin(plugin(tmp_path, "bad", body))
    assert os._exit is end


def test_a_plug_in_may_fork_and_ctrl_c_while_it_is_imported_is_ctrl_c(tmp_path):
    registry.load_plugin(
        plugin(tmp_path, "forks", "import os\npid = os.fork() or os._exit(5)\nstatus = os.waitpid(pid, 0)[1]")
    )
    assert os.waitstatus_to_exitcode(sys.modules["mtlbench_plugin_forks"].status) == 5
    with pytest.raises(KeyboardInterrupt):
        registry.load_plugin(plugin(tmp_path, "stopped", "raise KeyboardInterrupt"))


def test_a_plug_in_that_fails_half_way_leaves_nothing_registered(tmp_path):
    file = plugin(tmp_path, "half", DOUBLE.format(name="double") + "\n    raise RuntimeError('half way')\n")
    known = set(registry.methods.entries())
    with pytest.raises(UsageError, match="RuntimeError: half way"):
        registry.load_plugin(file)
    assert set(registry.methods.entries()) == known
    with pytest.raises(UsageError, match="Unknown method 'double'"):
        mtlbench.method("double")


def test_a_plug_in_that_fails_leaves_the_built_in_methods_it_used_usable(tmp_path, monkeypatch):
    entry = registry.methods.entry("mgda")
    monkeypatch.setitem(
        registry.methods.entries(), "mgda", registry.Registered("mgda", entry.origin)
    )  # not imported yet
    monkeypatch.delitem(sys.modules, "mtlbench.methods.mgda")
    file = plugin(tmp_path, "using", "import mtlbench\n\nmtlbench.method('mgda')\n1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        registry.load_plugin(file)
    assert mtlbench.method("mgda").normalize == "none"


def test_a_missing_file_or_one_that_is_no_python_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        registry.load_plugin(tmp_path / "nowhere.py")
    text = tmp_path / "notes.txt"
    text.write_text("nothing")
    with pytest.raises(UsageError, match=r"a plug-in is a Python file, ending in \.py"):
        registry.load_plugin(text)


def test_a_name_taken_twice_names_both_files(tmp_path):
    one = plugin(tmp_path, "one", DOUBLE.format(name="double"))
    two = plugin(tmp_path, "two", DOUBLE.format(name="double"))
    registry.load_plugin(one)
    with pytest.raises(UsageError) as caught:
        registry.load_plugin(two)
    assert str(one.resolve()) in str(caught.value)
    assert str(two.resolve()) in str(caught.value)
    assert registry.methods.entry("double").origin == str(one.resolve())
    builtin = plugin(tmp_path, "three", DOUBLE.format(name="gradvac"))
    with pytest.raises(UsageError, match=r"'gradvac' is taken twice: by .*gradvac\.py and by .*three\.py"):
        registry.load_plugin(builtin)
    assert mtlbench.method("gradvac").beta == 0.01


def test_two_plug_ins_of_one_file_name_in_two_folders_both_work(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        registry.load_plugin(plugin(tmp_path / folder, "mine", DOUBLE.format(name=f"double_{folder}")))
    assert mtlbench.method("double_a").name == "double_a"
    assert mtlbench.method("double_b").name == "double_b"
    assert registry.methods.entry("double_a").origin != registry.methods.entry("double_b").origin


def test_a_class_without_a_file_may_be_registered_again():
    scope = {"__name__": "__main__"}
    for factor in (2.0, 5.0):  # as when a notebook cell is run again after a change
        exec(textwrap.dedent(DOUBLE.format(name="typed").replace("2.0", str(factor))), scope)
        assert mtlbench.method("typed").factor == factor


@pytest.mark.parametrize("name", ["my-method", "two words", "", "a.b", "../a", "a" * 300])
def test_what_is_no_identifier_is_no_name(name):
    with pytest.raises(UsageError, match="is no name for a method: use at most 60 letters, digits and underscores"):
        mtlbench.register_method(name)
    with pytest.raises(UsageError, match="is no name for a task"):
        mtlbench.register_task(name)


# --- built-in files that are broken, and installed packages -----------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of methods of its own, beside the built-in one."""
    folder = tmp_path / "room_of_methods"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = registry.Registry("method", "room_of_methods")
    monkeypatch.setattr(registry, "methods", known)
    yield folder, known
    for name in [name for name in sys.modules if name.startswith("room_of_methods")]:
        del sys.modules[name]


def test_a_broken_built_in_file_is_an_entry_with_its_error(package):
    folder, known = package
    plugin(folder, "good", DOUBLE.format(name="good"))
    plugin(folder, "syntax", "def broken(:")
    plugin(folder, "failing", '"""Fails."""\nimport nowhere_at_all')
    plugin(folder, "renamed", DOUBLE.format(name="another"))
    plugin(folder, "_private", "1 / 0")
    plugin(folder, "._good", "\0")
    os.mkfifo(folder / "pipe.py")
    (folder / "binary.py").write_bytes(b"x = 1\0")
    plugin(folder, "deep", "x = " + "(" * 3000)
    assert sorted(known.entries()) == ["binary", "deep", "failing", "good", "renamed", "syntax"]
    assert known.entry("binary").error
    assert known.entry("deep").error
    assert known.entry("syntax").error.startswith("SyntaxError")
    assert known.names() == ["failing", "good", "renamed"]  # nothing is imported to find out
    for name, reason in (
        ("syntax", "SyntaxError"),
        ("failing", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("renamed", "registers no method called 'renamed'"),
    ):
        with pytest.raises(UsageError, match=f"The method '{name}' cannot be used: .*{reason}"):
            known.load(name)
        assert known.entry(name).error
    assert mtlbench.method("good").factor == 2.0


def entry_point(folder, name, module, body):
    plugin(folder, module, body)
    return importlib.metadata.EntryPoint(name, f"{module}:Double", "room_of_methods")


def test_entry_points_of_installed_packages_are_entries_and_broken_ones_are_named(package, tmp_path, monkeypatch):
    folder, known = package
    plugin(folder, "builtin", DOUBLE.format(name="builtin"))
    points = [
        entry_point(tmp_path, "installed", "room_of_methods_x", DOUBLE.format(name="installed")),
        entry_point(tmp_path, "broken", "room_of_methods_y", "1 / 0"),
        entry_point(tmp_path, "ending", "room_of_methods_v", "import sys; sys.exit(0)"),
        entry_point(tmp_path, "misnamed", "room_of_methods_z", DOUBLE.format(name="else_where")),
        entry_point(tmp_path, "builtin", "room_of_methods_w", DOUBLE.format(name="builtin")),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "room_of_methods" else [])
    assert mtlbench.method("installed").factor == 2.0
    assert known.entry("broken").error == "ZeroDivisionError: division by zero"
    assert known.entry("ending").error == "ImportError: " + ENDINGS["raise SystemExit(3)"].replace("3", "0")
    assert "registers no method called 'misnamed'" in known.entry("misnamed").error
    clash = next(entry for key, entry in known.entries().items() if key.startswith("builtin ("))
    assert "'builtin' is taken twice" in clash.error
    assert "builtin.py" in clash.error
    assert "room_of_methods_w:Double" in clash.error
    assert "broken" not in known.names()
    assert mtlbench.method("builtin").factor == 2.0


def test_a_plug_in_that_changes_the_working_directory_moves_no_path_of_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wanders.py").write_text("import os\nos.chdir('/')\n")
    registry.load_plugin("wanders.py")
    assert Path.cwd() == tmp_path
