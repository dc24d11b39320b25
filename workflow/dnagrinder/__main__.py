"""``python -m dnagrinder``: the way workflow rules call the library."""

from dnagrinder.cli import main

if __name__ == "__main__":
    main()
