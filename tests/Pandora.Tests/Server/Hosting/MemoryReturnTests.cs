using Microsoft.Extensions.Time.Testing;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Hosting;

public sealed class MemoryReturnTests
{
    [Fact]
    public void Memory_is_returned_once_after_large_growth_and_not_after_little()
    {
        var time = new FakeTimeProvider();
        var (committed, live, cleaned) = (40L << 20, 40L << 20, 0);
        using var memory = new MemoryReturn(time, () => committed, () =>
        {
            cleaned++;
            committed = live;
        });

        Assert.Equal(0, After(60));
        Assert.Equal(0, After(80));
        Assert.Equal(1, After(300));
        Assert.Equal(1, After(45));
        // While memory stays in use, collections become rarer, after 5 s, 10 s, 20 s …, but they do not stop.
        live = 200L << 20;
        Assert.Equal(2, After(300));
        Assert.Equal([3, 3, 4, 4, 4, 4, 5], Enumerable.Range(0, 7).Select(_ => After(200)));
        live = 40L << 20;
        Assert.Equal([5, 5, 5, 5, 5, 5, 5, 6], Enumerable.Range(0, 8).Select(_ => After(200)));
        Assert.Equal(6, After(60));
        // New growth starts a collection at once, and so does enough released memory.
        Assert.Equal(7, After(100));
        memory.Released(30 << 20);
        Assert.Equal(7, After(60));
        memory.Released(30 << 20);
        Assert.Equal(8, After(60));
        Assert.Equal(8, After(60));

        int After(long mebibytes)
        {
            committed = mebibytes << 20;
            time.Advance(MemoryReturn.Interval);
            return cleaned;
        }
    }
}
