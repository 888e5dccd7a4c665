"""Values too big for a row, in a folder or wherever fsspec leads. Which of them are still needed, the store knows."""

from .blobs import ROW_LIMIT, Blobs, digest_of, is_reference, reference_of, size_of

__all__ = ["ROW_LIMIT", "Blobs", "digest_of", "is_reference", "reference_of", "size_of"]
