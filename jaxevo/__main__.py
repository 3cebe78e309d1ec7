"""`python -m jaxevo` is `jaxevo`."""

from jaxevo.cli import main

if __name__ == "__main__":
    main()
