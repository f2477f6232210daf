//! Scheduler, continuous batching, paged prefix cache and sampling.
