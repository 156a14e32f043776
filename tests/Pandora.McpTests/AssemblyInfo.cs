using Pandora.McpTests;

// The tests run one at a time: they start real microVMs, and a machine may have two cores.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
[assembly: TestCollectionOrderer(typeof(ReportLast))]
