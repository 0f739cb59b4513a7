"""`python -m segzoo`, for use if the `segzoo` command is not on the path."""

from segzoo.cli import main

if __name__ == "__main__":
    main()
