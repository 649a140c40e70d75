//! The judge: a workload and the facts about it in, a verdict out.
