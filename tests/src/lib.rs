//! tests over whole processes and real servers
