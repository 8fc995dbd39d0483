//! The persisted side: store, catalogue, jobs, CIM_Error.
