"""The data step of the original plan: the same as `mouselift prepare`.

python scripts/process_mouse_data.py RECORDING -o DATASET every=9 max_samples=2000
"""

import sys

from mouselift.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["prepare"]
    main()
