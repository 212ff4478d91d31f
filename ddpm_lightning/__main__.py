"""``python -m ddpm_lightning`` is ``ddpm-lightning``."""

from ddpm_lightning.cli.main import main

if __name__ == "__main__":
    main()
