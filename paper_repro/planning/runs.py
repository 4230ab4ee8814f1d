"""The runs of a study and where they stand: from names and seeds to complete specs and their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from paper_repro.calibrate import Choice, choose
from paper_repro.planning.claims import Contrast
from paper_repro.planning.study import Catalogue, Study
from paper_repro.records import RunRecord, RunSpec, code_version


@dataclass(frozen=True)
class Runs:
    """A study together with the records that there are; equal records give equal answers.

    Losses compare only within one data manifest and one code version. Per preset the manifest ``manifests`` names is
    used, else the one that most records have; `left_out` counts the others.
    """

    study: Study
    catalogue: Catalogue
    records: Mapping[RunSpec, RunRecord]
    left_out: Mapping[str, int] = field(default_factory=dict)
    _choices: dict[tuple[str, str], Choice] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        study: Study,
        catalogue: Catalogue,
        records: Iterable[RunRecord],
        manifests: Mapping[str, str] | None = None,
    ) -> Runs:
        """The runs of ``study`` among ``records``."""
        ours = [record for record in records if record.spec.scale == study.scale]
        used = dict(manifests or {})
        valid = [record for record in ours if record.code == code_version(record.spec.preset)]
        counts = Counter((record.spec.preset, record.manifest) for record in valid)
        for (preset, manifest), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            used.setdefault(preset, manifest)
        kept: dict[RunSpec, RunRecord] = {}
        left_out: Counter[str] = Counter()
        for record in ours:
            now = code_version(record.spec.preset)
            if record.code != now:
                left_out[f"code version {record.code} of {record.spec.preset} (now {now})"] += 1
            elif record.manifest != used[record.spec.preset]:
                left_out[f"data {record.manifest[:12]} for {record.spec.preset}"] += 1
            else:
                kept[record.spec] = record
        return cls(study, catalogue, kept, dict(sorted(left_out.items())))

    def has(self, contrast: Contrast, preset: str) -> bool:
        """Whether the study runs both sides of a contrast on the preset."""
        return (
            self.catalogue.family(preset) == contrast.family
            and self.catalogue.auxiliary(preset) == contrast.auxiliary
            and all(
                self.study.seeds(preset, side, contrast.target_offset)
                for side in (contrast.treatment, contrast.baseline)
            )
        )

    def choice(self, preset: str, optimizer: str) -> Choice:
        """The learning-rate trials of a configuration, and what they chose."""
        key = (preset, optimizer)
        if key not in self._choices:
            self._choices[key] = choose(self.study, preset, optimizer, self.catalogue, self.records)
        return self._choices[key]

    def spec(self, preset: str, optimizer: str, seed: int, target_offset: int) -> RunSpec | None:
        """The full run; None while its learning rates are not known."""
        rates = self.choice(preset, optimizer).rates
        if rates is None:
            return None
        return RunSpec(
            preset,
            optimizer,
            rates=rates,
            seed=seed,
            target_offset=1 if target_offset == 1 else 2,
            precision=self.catalogue.precision(preset),
        )

    def record(self, preset: str, optimizer: str, seed: int, target_offset: int) -> RunRecord | None:
        """What the full run left behind; None if it has not run, or failed for reasons that are no result."""
        spec = self.spec(preset, optimizer, seed, target_offset)
        record = self.records.get(spec) if spec is not None else None
        return record if record is not None and record.outcome != "failed" else None
