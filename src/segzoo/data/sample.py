"""The photograph that ships with segzoo, for the demo, documentation and tests."""

from pathlib import Path

PHOTOGRAPH = Path(__file__).with_name("photograph") / "temple.jpg"
"""A temple, trees and sky: RGB, 640 x 427. CC BY 2.0; LICENSE.txt in its folder names the author."""
