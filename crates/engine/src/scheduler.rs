//! Decides what goes through the model next.

use std::sync::Arc;

use crate::{
    backend::Backend,
    engine::{EngineConfig, Phase, Shared},
    request::{GenerateError, ModelLimits},
};

pub(crate) struct Scheduler {
    shared: Arc<Shared>,
}

impl Scheduler {
    pub(crate) fn new(
        _backend: Box<dyn Backend>,
        _config: EngineConfig,
        _limits: ModelLimits,
        shared: Arc<Shared>,
    ) -> Self {
        Scheduler { shared }
    }

    pub(crate) fn run(&mut self) {
        let mut inbox = self.shared.lock();
        loop {
            while let Some(job) = inbox.jobs.pop_front() {
                job.fail(GenerateError::EngineFailed { why: "the scheduler has not landed yet".into() });
            }
            if inbox.phase != Phase::Open {
                inbox.phase = Phase::Stopped;
                return;
            }
            inbox = self.shared.wake.wait(inbox).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}
