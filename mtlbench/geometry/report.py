"""The report of an analysis: every section with its figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from mtlbench.errors import UsageError
from mtlbench.geometry import compared, conflicts, drawn, followed, outcome, tabulated
from mtlbench.geometry.analysis import RECORDING, Seeds, Study, studies
from mtlbench.geometry.compared import Variant
from mtlbench.geometry.contents import Part, Report, Section, Setting
from mtlbench.geometry.corrections import corrections
from mtlbench.geometry.drawn import Options, Shown
from mtlbench.geometry.loading import load
from mtlbench.geometry.outcome import Measured
from mtlbench.record.runs import Run
from mtlbench.record.trajectory import GEOMETRY, Trajectory
from mtlbench.rendering.table import Column, Value

NOTES = (
    "Disattenuated cosines are those of the mean gradients, as they would be without the noise of small batches; "
    "unaligned ones are between different examples, as in a step of training; aligned ones are on the same examples, "
    "whose common noise counts as similarity, as in a plot of one multi-way parallel batch.",
    "A similarity that follows a family tree may follow what goes with it: subwords that languages share, how much "
    "data they have, the untrained model. Controls stand in the same table as the answer.",
)


MOST_DRAWN = 6
"""Settings of a section that have figures; a study of quality may have dozens."""


def analyse(
    runs: Iterable[Run], options: Options | None = None, tell: Callable[[str], object] = lambda _: None
) -> Report:
    """The report on some finished runs.

    Args:
        runs: of any tasks and methods; those without geometry count as what is missing, or as single-task base.
        options: what is shown.
        tell: called with the title of each setting before it is worked on.

    Raises:
        UsageError: no run has recorded its geometry, or an option fits none.
    """
    chosen = options or Options()
    found = [_section(study, chosen, tell) for study in studies(runs)]
    sections = [section for section, _, _ in found if section]
    if not sections:
        raise UsageError(" ".join(text for _, _, missing in found for text in missing))
    variants = [variant for _, variants, _ in found for variant in variants]
    return Report("Gradient geometry", (*sections, *compared.at_equal_loss(variants)), NOTES)


def _section(
    study: Study, options: Options, tell: Callable[[str], object]
) -> tuple[Section | None, list[Variant], list[str]]:
    """A section, its settings, and what is missing; no section where no file of geometry can be read."""
    variants: list[Variant] = []
    settings, measured, rows = [], [], []
    columns: dict[str, Column] = {}
    missing = _missing(study)
    drawn_ones = sorted(study.settings, key=lambda seeds: -len(seeds.runs))[:MOST_DRAWN]
    for seeds in study.settings:
        tell(f"{study.title}: {seeds.title}")
        shown = _shown(seeds, options, missing)
        if shown is None:
            continue
        setting, values = _setting(shown, columns)
        if seeds not in drawn_ones:
            setting = replace(setting, parts=tuple(replace(part, drawings=()) for part in setting.parts))
        settings.append(setting)
        rows.append((seeds.label, len(shown.runs), values))
        measured.append(outcome.measured(study, seeds, shown))
        variants.append(Variant(study, seeds, shown))
    if not measured:
        return None, variants, missing
    notes = ["Values of p are of permutations, and not adjusted for the number of tests."] if len(columns) > 4 else []
    summary = tabulated.table("summary", "Key numbers", columns.values(), rows, "setting", notes)
    section = Section(
        study.slug,
        study.title,
        _facts(study, measured[0]),
        tuple(missing),
        tuple(settings),
        outcome.parts(measured),
        summary,
    )
    return section, variants, missing


def _shown(seeds: Seeds, options: Options, missing: list[str]) -> Shown | None:
    """The runs of a setting that can be looked at together: those that can be read, with the snapshots of the first."""
    runs = []
    for run in seeds.runs:
        try:
            runs.append(load(run.path.parent).trajectory)
        except UsageError as error:
            missing.append(str(error))
    if not runs:
        return None
    alike = [run for run in runs if _shape(run) == _shape(runs[0])]
    if len(alike) < len(runs):
        missing.append(
            f"{seeds.label}: {len(runs) - len(alike)} of {len(runs)} seeds were recorded at other steps or with other "
            "probe batches than the first, and are left out."
        )
    method = seeds.runs[0].cell.method
    title = seeds.title if len(alike) == len(seeds.runs) else seeds.label
    return Shown(seeds.slug, title, method, alike, options)


def _shape(run: Trajectory) -> tuple[object, ...]:
    return run.steps.tolist(), run.batches, run.examples, tuple(group.name for group in run.groups)


def _setting(shown: Shown, columns: dict[str, Column]) -> tuple[Setting, dict[str, Value]]:
    done = corrections(shown.runs)
    near = followed.near(shown)
    parts = [
        Part(
            "Which objectives have similar gradients",
            drawings=tuple(drawn.maps(shown)),
            long_tables=(tabulated.pairs(shown, done),),
        ),
        Part(
            "How similarity changes while the model trains",
            tuple(tabulated.similarity_findings(shown)),
            tuple(drawn.along_training(shown)),
            (tabulated.similarity(shown),),
            (tabulated.layers(shown),),
        ),
        Part(
            "What similarity follows",
            near.findings if near else ("The task tells no relation of its objectives, such as a family tree.",),
            tuple(drawn.proximity_over_steps(shown)) if near else (),
            near.tables if near else (),
        ),
        Part(
            "Conflicts, and what the method did about them",
            tuple(tabulated.conflict_findings(shown, done)),
            tuple(conflicts.draw(shown, done)),
            (tabulated.conflict_table(shown, done),),
        ),
    ]
    return Setting(shown.slug, shown.title, tuple(parts)), followed.key_numbers(shown, near, columns)


def _missing(study: Study) -> list[str]:
    said = []
    if study.unrecorded:
        labels = ", ".join(sorted({run.label for run in study.unrecorded})[:5])
        said.append(
            f"{len(study.unrecorded)} runs have no {GEOMETRY} and are not in this report ({labels}): train them with "
            f"{RECORDING}."
        )
    if len(study.settings) > MOST_DRAWN:
        said.append(
            f"Figures are of {MOST_DRAWN} of {len(study.settings)} settings, those with most seeds first; tables are "
            "of all. Name fewer runs for the figures of others."
        )
    single = [seeds.label for seeds in study.settings if len(seeds.runs) == 1]
    if single:
        which = single[0] if len(study.settings) == 1 else f"{len(single)} of {len(study.settings)} settings"
        said.append(
            f"One seed alone of {which}: such intervals are over probe batches, and say nothing of other seeds."
        )
    if not study.references:
        said.append(
            "No run of single-task training is among the runs: gains over it are not shown (method=single_task)."
        )
    return said


def _facts(study: Study, first: Measured) -> dict[str, str]:
    run = study.settings[0].runs[0]
    return {
        "task": f"{run.cell.task}/{run.cell.variant}",
        "protocol": run.cell.protocol_label,
        "objectives": ", ".join(study.objectives),
        **first.facts,
    }
