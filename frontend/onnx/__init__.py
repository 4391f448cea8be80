"""ONNX models as graphs: the reader (load), the table of operators (registry, ops)."""
