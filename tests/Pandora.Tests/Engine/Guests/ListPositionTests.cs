using Pandora.Engine;
using Pandora.Engine.Guests.Files;

namespace Pandora.Tests.Engine.Guests;

/// <summary>How far the pages of a list are.</summary>
public sealed class ListPositionTests
{
    private static readonly FileOutcome More = new(IsCreated: false, 0, 0, 0, HasMore: true);

    [Fact]
    public void A_position_is_read_as_it_was_written()
    {
        var (first, last) = (FileOf([.. "/tmp/a"u8]), FileOf([.. "/tmp/a/"u8, 0xFF, (byte)'/', (byte)'b']));
        var next = ListPosition.Parse(null).NextOf(new FileAnswer([first, last], More));
        var position = ListPosition.Parse(next);
        Assert.Equal((5, "612FFF2F62"), (position.Directory, Convert.ToHexString(position.After)));
        // A later page begins below the directory; the directory stays.
        var later = ListPosition.Parse(position.NextOf(new FileAnswer([FileOf([.. "/tmp/a/x/y"u8])], More)));
        Assert.Equal((5, "612F782F79"), (later.Directory, Convert.ToHexString(later.After)));
    }

    [Fact]
    public void The_last_page_has_no_next()
    {
        Assert.Null(ListPosition.Parse(null).NextOf(new FileAnswer([FileOf([.. "/a"u8])], More with { HasMore = false })));
        Assert.Null(ListPosition.Parse(null).NextOf(new FileAnswer([], More)));
    }

    [Theory]
    [InlineData("AA")]
    [InlineData("no base64!")]
    public void Another_text_is_refused(string text) =>
        Assert.Equal("after", Assert.Throws<PandoraException>(() => ListPosition.Parse(text)).Field);

    [Fact]
    public void A_guest_that_lists_another_directory_is_refused()
    {
        var position = ListPosition.Parse(ListPosition.Parse(null).NextOf(new FileAnswer([FileOf([.. "/long/path/a"u8])], More)));
        Assert.Throws<PandoraException>(() => position.NextOf(new FileAnswer([FileOf([.. "/a"u8])], More)));
    }

    private static GuestFile FileOf(byte[] path) => new(path, GuestFileKind.File, "tag");
}
