using System.Text;
using CsCheck;
using Pandora.Engine.Guests;

namespace Pandora.Tests.Guests;

public sealed class OutputCollectorTests
{
    private const string Mark = "0123456789abcdef";

    [Fact]
    public void Text_and_marker_are_whole_wherever_the_stream_is_cut()
    {
        var stream = Encoding.UTF8.GetBytes($"héllo \0 wörld 🚀\0{Mark} 2 143\0 and ignored bytes");
        Gen.Int[1, 7].Array[1, 60].Sample(cuts =>
        {
            var collector = new OutputCollector(1000, Mark);
            var markers = new List<Marker>();
            var position = 0;
            foreach (var cut in cuts.Append(stream.Length))
            {
                var count = Math.Min(cut, stream.Length - position);
                markers.AddRange(collector.Append(stream.AsSpan(position, count)));
                position += count;
            }

            Assert.Equal("héllo \0 wörld 🚀", collector.Take().ToString());
            Assert.Equal(new Marker(2, "143"), Assert.Single(markers));
            Assert.False(collector.IsTruncated);
        });
    }

    [Fact]
    public void Text_like_a_marker_is_output()
    {
        var collector = new OutputCollector(1000, Mark);
        var other = $"\0{Mark[..^1]}x 2 0\0";
        Assert.Empty(collector.Append(Encoding.UTF8.GetBytes(other)));
        Assert.Empty(collector.Append("end"u8));
        Assert.Equal(other + "end", collector.Take().ToString());
    }

    [Fact]
    public void A_character_cut_by_the_limit_is_dropped()
    {
        foreach (var limit in Enumerable.Range(1, 12))
        {
            var collector = new OutputCollector(limit, Mark);
            collector.Append(Encoding.UTF8.GetBytes("aé€🚀aé€🚀"));
            Assert.True(collector.IsTruncated);
            Assert.DoesNotContain('\uFFFD', collector.Take().ToString());
            Assert.True(Encoding.UTF8.GetByteCount(collector.Take().ToString()) <= limit);
        }
    }

    [Fact]
    public void Exactly_the_limit_is_not_truncated()
    {
        var collector = new OutputCollector(4, Mark);
        collector.Append("abcd"u8);
        Assert.False(collector.IsTruncated);
        Assert.Equal("abcd", collector.Take().ToString());
    }

    [Fact]
    public void Memory_is_bounded_for_any_length_of_output()
    {
        var collector = new OutputCollector(1000, Mark);
        var chunk = new byte[32 * 1024];
        for (var i = 0; i < 1000; i++)
        {
            collector.Append(chunk);
        }

        Assert.True(collector.IsTruncated);
        Assert.Equal(1000, collector.Take().ToString().Length);
    }
}
