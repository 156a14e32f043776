using Pandora.Engine.Admission;
using Pandora.Fakes;

namespace Pandora.Tests.Engine.Admission;

/// <summary>The permits to start microVMs.</summary>
public sealed class StartPermitsTests
{
    [Fact]
    public async Task The_projects_that_wait_are_served_in_turn()
    {
        var permits = new StartPermits(1);
        await permits.WaitAsync("a", default);
        var served = new List<string>();
        Task[] waiting = [.. "aaabbc".Select(p => NoteAsync($"{p}"))];
        Assert.Equal(0, permits.FreeCount);
        for (var i = 0; i < waiting.Length; i++)
        {
            permits.Release();
            await FakeNode.UntilAsync(() => waiting.Count(w => w.IsCompleted) == i + 1);
        }

        await Task.WhenAll(waiting);
        Assert.Equal("abcaba", string.Concat(served));
        permits.Release();
        Assert.Equal(1, permits.FreeCount);

        async Task NoteAsync(string project)
        {
            await permits.WaitAsync(project, default);
            lock (served)
            {
                served.Add(project);
            }
        }
    }

    [Fact]
    public async Task A_start_that_gives_up_takes_nothing()
    {
        var permits = new StartPermits(1);
        await permits.WaitAsync("a", default);
        using var stopping = new CancellationTokenSource();
        var first = permits.WaitAsync("a", stopping.Token);
        var second = permits.WaitAsync("b", default);
        await stopping.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => permits.WaitAsync("c", stopping.Token));
        permits.Release();
        await second;
        permits.Release();
        Assert.Equal(1, permits.FreeCount);
    }

    [Fact]
    public async Task No_permit_is_lost_when_waits_end_as_permits_come()
    {
        var permits = new StartPermits(2);
        var options = new ParallelOptions { MaxDegreeOfParallelism = 16 };
        await Parallel.ForAsync(0, 5000, options, async (i, _) =>
        {
            using var stopping = new CancellationTokenSource();
            var waiting = permits.WaitAsync($"{i % 5}", stopping.Token);
            if (i % 3 == 0)
            {
                await stopping.CancelAsync();
            }

            try
            {
                await waiting;
            }
            catch (OperationCanceledException)
            {
                return;
            }

            await Task.Yield();
            permits.Release();
        });
        Assert.Equal(2, permits.FreeCount);
    }
}
