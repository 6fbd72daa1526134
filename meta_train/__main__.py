"""The command line: `python -m meta_train train|evaluate|export|tasks|zoo`."""

from meta_train.cli import main

if __name__ == "__main__":
    main()
