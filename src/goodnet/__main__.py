"""`python -m goodnet` is `goodnet`."""

from goodnet.cli import main

if __name__ == "__main__":
    main()
