using System.Text;
using Pandora.Mcp.Files;

namespace Pandora.Tests.Mcp;

/// <summary>What grep and find write, which is data of the guest.</summary>
public sealed class SearchOutputTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(10_000)]
    public void Matches_are_found_however_they_are_cut_into_pieces(int piece)
    {
        var output = new SearchOutput(hasText: true, limit: 10);
        Assert.True(Feed(output, "/a\0" + "1:one\n/b\nc\0" + "20:t:w\0o\r\n/d\0" + "3:\n", piece));
        Assert.Equal(
            [new("/a", 1, "one"), new("/b\nc", 20, "t:w\0o\r"), new FoundText("/d", 3, "")], output.Found);
        Assert.False(output.HasMore);
        output = new SearchOutput(hasText: false, limit: 10);
        Assert.True(Feed(output, "/a\0/b\nc\0", piece));
        Assert.Equal([new("/a", null, null), new FoundText("/b\nc", null, null)], output.Found);
    }

    [Fact]
    public void A_line_of_megabytes_is_shortened_and_the_next_match_is_whole()
    {
        var output = new SearchOutput(hasText: true, limit: 10);
        Assert.True(Feed(output, $"/a\0" + $"1:{new string('€', 3_000_000)}\n/b\0" + "2:two\n", 32 * 1024));
        Assert.Equal(("/a", $"{new string('€', 300)}…"), (output.Found[0].Path, output.Found[0].Text));
        Assert.Equal(new FoundText("/b", 2, "two"), output.Found[1]);
        Assert.False(output.HasMore);
    }

    [Theory]
    [InlineData("/{0}\0" + "1:one\n/b\0" + "2:two\n")]
    [InlineData("/a\0no number\n/b\0" + "2:two\n")]
    [InlineData("/a\0:1:one\n/b\0" + "2:two\n")]
    [InlineData("/a\0" + "99999999999999999999:one\n/b\0" + "2:two\n")]
    public void What_no_grep_writes_is_left_out_and_said_to_be(string text)
    {
        var output = new SearchOutput(hasText: true, limit: 10);
        Assert.True(Feed(output, text.Replace("{0}", new string('x', 100_000), StringComparison.Ordinal), 1000));
        Assert.Equal([new FoundText("/b", 2, "two")], output.Found);
        Assert.True(output.HasMore);
    }

    [Fact]
    public void A_path_that_is_no_text_is_marked()
    {
        var output = new SearchOutput(hasText: false, limit: 10);
        Assert.True(output.Take([(byte)'/', 0xFF, 0, (byte)'/', (byte)'a', 0]));
        Assert.Equal([new("/\uFFFD", null, null, NotUtf8: true), new FoundText("/a", null, null)], output.Found);
    }

    [Fact]
    public void No_more_is_kept_than_was_asked_for_and_than_a_model_reads()
    {
        var output = new SearchOutput(hasText: false, limit: 3);
        Assert.True(Feed(output, "/a\0/b\0", 100));
        Assert.False(output.HasMore);
        // The search ends here: nobody knows whether there are more.
        Assert.False(Feed(output, "/c\0/d\0/e\0", 100));
        Assert.Equal((3, true), (output.Found.Count, output.HasMore));
        output = new SearchOutput(hasText: false, limit: 1000);
        Assert.False(Feed(output, string.Concat(Enumerable.Repeat($"/{new string('x', 3999)}\0", 100)), 5000));
        Assert.Equal(15, output.Found.Count);
    }

    private static bool Feed(SearchOutput output, string text, int piece)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        for (var at = 0; at < bytes.Length; at += piece)
        {
            if (!output.Take(bytes.AsSpan(at, Math.Min(piece, bytes.Length - at))))
            {
                return false;
            }
        }

        return true;
    }
}
