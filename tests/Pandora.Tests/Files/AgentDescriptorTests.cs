using Pandora.Agent.Protocol.Files;
using Pandora.Tests.Telemetry;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Tests.Files;

/// <summary>The descriptors that the agent uses for files. The test runs alone, because it counts those of the process.</summary>
[Collection(nameof(Alone))]
public sealed class AgentDescriptorTests : AgentFileTest
{
    [Fact]
    public async Task A_deep_tree_is_copied_with_few_descriptors()
    {
        MakeDeep("deep", 3000);
        var (most, hasCounted, isOver) = (0, new TaskCompletionSource(), false);
        // Not a thread of the pool, which may be late.
        var counting = new Thread(() =>
        {
            while (!Volatile.Read(ref isOver))
            {
                most = Math.Max(most, Descriptors());
                hasCounted.TrySetResult();
            }
        });
        counting.Start();
        await hasCounted.Task;
        var before = Descriptors();
        var copy = await Talk.DoAsync(
            Request(FileOperation.Copy, "deep") with { Options = FileOptions.Recursive, Target = Bytes(PathOf("copy")) });
        Volatile.Write(ref isOver, true);
        counting.Join();
        Assert.Equal(3001, copy.Result!.Entries);
        Assert.InRange(most, 1, before + 500);

        static int Descriptors() => Directory.GetFileSystemEntries("/proc/self/fd").Length;
    }
}
