"""Files: the text of a file that a person wrote."""

from jaxevo.config.sentences import StudyError

LARGEST_FILE = 16 * 2**20  # bytes


def read_text(file: str, what: str) -> str:
    """The text of a file, UTF-8 without a byte order mark; `what` it should be.

    Raises:
        StudyError: one sentence, with the file and, where there is one, the line.
    """
    try:
        with open(file, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except IsADirectoryError:
        raise StudyError(f"{file}: is a folder; expected {what}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"{file}: cannot be read: {reason}") from None
    if len(data) > LARGEST_FILE:
        raise StudyError(f"{file}: is larger than {LARGEST_FILE} bytes; expected {what}")
    if data.startswith(b"\xef\xbb\xbf"):
        raise StudyError(f"{file}:1: starts with a byte order mark; expected UTF-8 without one")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise StudyError(f"{file}:1: is not UTF-8 text (UTF-16, or no text); expected UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        byte = data[error.start]
        raise StudyError(
            f"{file}:{line}: is not UTF-8: byte 0x{byte:02x}; expected UTF-8"
        ) from None
