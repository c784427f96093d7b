//! Topic names, filters and the subscription tree.
