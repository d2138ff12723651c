"""The training step of the original plan: the same as `mouselift train`, with `configs/mouse_config.yaml`.

python train_mouse.py gslrm -o runs/mouse data.root=DATASET
"""

import sys

from mouselift.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--config" not in arguments and "--help" not in arguments:
        arguments += ["--config", "configs/mouse_config.yaml"]
    sys.argv[1:] = ["train", *arguments]
    main()
