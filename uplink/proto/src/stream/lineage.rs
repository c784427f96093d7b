//! U1: where two histories part.
