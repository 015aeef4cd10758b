"""A window for images, made with tkinter: the OpenCV that camtrack needs may be one without windows."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import DataError

REMEDY = "watch the annotated video instead"


class Window:
    """A window that shows images; once closed, it stays so.

    Raises DataError where this Python has no tkinter, or where there is no display.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise DataError(
                f"--view: expected tkinter (Debian, Ubuntu: apt install python3-tk), got: {error}; {REMEDY}"
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise DataError(f"--view: expected a display, got: {error}; {REMEDY}") from error
        self._root.title(title)
        self._make_picture = tkinter.PhotoImage
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        self._root.update()

    def show(self, image: NDArray[np.uint8]) -> None:
        """Show a (H, W, 3) BGR image."""
        if not self._open:
            return
        picture = self._make_picture(master=self._root, data=to_ppm(image), format="PPM")
        self._label.configure(image=picture)
        self._picture = picture  # tkinter itself does not keep it
        self._root.update()

    def close(self) -> None:
        self._open = False
        self._root.destroy()


def to_ppm(image: NDArray[np.uint8]) -> bytes:
    """A (H, W, 3) BGR image as a file that tkinter reads without decoding."""
    height, width = image.shape[:2]
    return b"P6 %d %d 255\n" % (width, height) + cv2.cvtColor(image, cv2.COLOR_BGR2RGB).tobytes()
