//! Who can open a connection to whom.
