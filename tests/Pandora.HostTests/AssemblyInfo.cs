// Two classes at a time, each with its own namespaces and server: one at a time leaves half of two cores idle, because guests and tests
// wait for each other.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.Collections, MaxThreads = 2)]
