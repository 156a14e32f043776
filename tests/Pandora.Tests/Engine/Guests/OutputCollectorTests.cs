using System.Text;
using Pandora.Engine.Guests;

namespace Pandora.Tests.Guests;

public sealed class OutputCollectorTests
{
    [Fact]
    public void A_character_cut_by_the_limit_is_dropped()
    {
        foreach (var limit in Enumerable.Range(1, 12))
        {
            var collector = new OutputCollector(limit);
            collector.Append(Encoding.UTF8.GetBytes("aé€🚀aé€🚀"));
            Assert.True(collector.IsTruncated);
            Assert.DoesNotContain('\uFFFD', collector.Take().ToString());
            Assert.True(Encoding.UTF8.GetByteCount(collector.Take().ToString()) <= limit);
        }
    }

    [Fact]
    public void Exactly_the_limit_is_not_truncated()
    {
        var collector = new OutputCollector(4);
        collector.Append("abcd"u8);
        Assert.False(collector.IsTruncated);
        Assert.Equal("abcd", collector.Take().ToString());
    }

    [Fact]
    public void Memory_is_bounded_for_any_length_of_output()
    {
        var collector = new OutputCollector(1000);
        var chunk = new byte[32 * 1024];
        for (var i = 0; i < 1000; i++)
        {
            collector.Append(chunk);
        }

        Assert.True(collector.IsTruncated);
        Assert.Equal(1000, collector.Take().ToString().Length);
    }
}
