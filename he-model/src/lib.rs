//! The HE-ready model: tensor graph, slot layouts, packed programs, file format, clear interpreter and level tracer.
