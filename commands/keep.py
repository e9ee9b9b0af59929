"""`emu-edit keep`: of an edited picture, by whatever editor, keep the edit and nothing else."""

from __future__ import annotations

import argparse
import json

from ..core.images import fit_mask
from ..core.picture_files import check_apart, check_output, load_mask, load_picture, save_picture
from ..core.sequential.change import ChangeSettings
from ..core.sequential.keep import KeepSettings, keep_edit


def keep_file(options: argparse.Namespace) -> None:
    """Carry out the parsed `emu-edit keep`."""
    output = check_output(options.output)
    mask_output = None if options.mask_out is None else check_output(options.mask_out)
    check_apart({"output": output, "mask output": mask_output}, [options.mask])
    check_apart({"mask output": mask_output}, [options.previous, options.edited])
    settings = KeepSettings(
        fit=options.fit,
        register=not options.no_align,
        colour=options.colour,
        feather=options.feather,
        change=ChangeSettings(
            options.mode,
            options.alpha,
            options.sigma,
            options.compare_in,
            specks=options.specks,
            holes=options.holes,
        ),
    )
    settings.check()
    previous, edited = load_picture(options.previous), load_picture(options.edited)
    mask = None if options.mask is None else fit_mask(load_mask(options.mask), *previous.shape[:3])
    result = keep_edit(previous, edited, mask, settings)
    save_picture(output, result.kept)
    if mask_output is not None:
        save_picture(mask_output, result.mask[0])
    if options.json:
        print(json.dumps({"output": str(output), **result.report}, indent=1))
        return
    entry = result.report["pictures"][0]
    for name in ("registration", "colour"):
        step = entry.get(name)
        if step is not None and (step["moved"] or step["note"] != "not asked for"):
            numbers = ", ".join(f"{k} {v}" for k, v in step.items() if k not in ("moved", "note"))
            told = step["note"] or numbers
            print(f"{name}: {told}")
    print(f"wrote {output}: {entry['changed']:.1%} of the pixels are the edit's")
