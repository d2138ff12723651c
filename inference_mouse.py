"""The inference step of the original plan: the same as `mouselift reconstruct`.

python inference_mouse.py mouse.jpg -o out/
"""

import sys

from mouselift.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["reconstruct"]
    main()
