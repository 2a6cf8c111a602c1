//! Checks the host before anything starts.
