using System.Text;
using ModelContextProtocol.Protocol;
using Pandora.Fakes;
using Pandora.Linux;

namespace Pandora.Tests.Mcp;

/// <summary>Files by MCP, served by the agent's real code.</summary>
public sealed class FileToolTests : IAsyncLifetime
{
    // One grey pixel.
    private const string Pixel =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";

    private readonly string _root = Directory.CreateTempSubdirectory("pandora-files-").FullName;
    private McpWorld _world = null!;
    private string _id = null!;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipUnless(
            AgentFiles.OwnUser == "0", "the tools work as root of the guest, and the tests' agent has the rights of this user");
        _world = await McpWorld.StartAsync();
        _id = await _world.CreateWithFilesAsync();
    }

    public async ValueTask DisposeAsync()
    {
        // .NET cannot name all files that a test makes.
        await Command.RunAsync("rm", ["-r", _root]);
        await (_world?.DisposeAsync() ?? default);
    }

    [Fact]
    public async Task A_file_is_written_edited_and_read()
    {
        var path = $"{_root}/a/b.txt";
        var written = await _world.DoAsync("file_write", new { path, text = "one\ntwo\nthree\n", sandbox = _id, mode = "750" });
        Assert.Equal((14, true), (written.GetProperty("bytes").GetInt32(), written.GetProperty("created").GetBoolean()));
        var edited = await _world.DoAsync("file_edit", new { path, old_text = "two", new_text = "2", sandbox = _id });
        Assert.Equal((1, 2), (edited.GetProperty("replaced").GetInt32(), edited.GetProperty("first_line").GetInt32()));
        Assert.Equal("one\n2\nthree\n", await File.ReadAllTextAsync(path));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead
            | UnixFileMode.GroupExecute, File.GetUnixFileMode(path));
        var read = await _world.DoAsync("file_read", new { path, first_line = 2, sandbox = _id });
        Assert.Equal("2\nthree\n", read.GetProperty("guest").GetProperty("text").GetString());
        Assert.False(read.TryGetProperty("next_cursor", out _));
    }

    [Fact]
    public async Task A_text_is_replaced_only_where_it_is_clear_which()
    {
        var path = $"{_root}/a";
        await File.WriteAllTextAsync(path, "x x\n");
        Assert.Equal("old_text", (await _world.FailAsync("file_edit", new { path, old_text = "y", new_text = "z", sandbox = _id })).Field);
        var (_, field, text) = await _world.FailAsync("file_edit", new { path, old_text = "x", new_text = "z", sandbox = _id });
        Assert.Equal("old_text", field);
        Assert.Contains("2 times", text, StringComparison.Ordinal);
        Assert.Equal("x x\n", await File.ReadAllTextAsync(path));
        await _world.DoAsync("file_edit", new { path, old_text = "x", new_text = "z", all = true, sandbox = _id });
        Assert.Equal("z z\n", await File.ReadAllTextAsync(path));
        await File.WriteAllBytesAsync(path, [0xFF, 0x61]);
        Assert.Equal("path", (await _world.FailAsync("file_edit", new { path, old_text = "a", new_text = "b", sandbox = _id })).Field);
    }

    [Fact]
    public async Task A_long_text_is_read_in_parts_at_the_ends_of_lines()
    {
        var text = string.Concat(Enumerable.Range(0, 200).Select(i => $"line {i} €\n"));
        await File.WriteAllTextAsync($"{_root}/long", text);
        var (read, cursor, calls) = (new StringBuilder(), (long?)0, 0);
        while (cursor is not null)
        {
            var part = await _world.DoAsync("file_read", new { path = $"{_root}/long", cursor, max_chars = 500, sandbox = _id });
            var shown = part.GetProperty("guest").GetProperty("text").GetString()!;
            Assert.InRange(shown.Length, 1, 500);
            Assert.EndsWith("\n", shown, StringComparison.Ordinal);
            read.Append(shown);
            cursor = part.TryGetProperty("next_cursor", out var next) ? next.GetInt64() : null;
            calls++;
        }

        Assert.Equal(text, read.ToString());
        Assert.InRange(calls, 4, 10);
        foreach (var first_line in new[] { 201, 202, 1000 })
        {
            Assert.Contains(
                "has 200 lines", (await _world.FailAsync("file_read", new { path = $"{_root}/long", first_line, sandbox = _id })).Text,
                StringComparison.Ordinal);
        }

        await File.WriteAllTextAsync($"{_root}/open", "one\ntwo");
        var last = await _world.DoAsync("file_read", new { path = $"{_root}/open", first_line = 2, sandbox = _id });
        Assert.Equal("two", last.GetProperty("guest").GetProperty("text").GetString());
        Assert.Contains(
            "has 2 lines", (await _world.FailAsync("file_read", new { path = $"{_root}/open", first_line = 3, sandbox = _id })).Text,
            StringComparison.Ordinal);
        Assert.Equal("cursor", (await _world.FailAsync("file_read", new { path = $"{_root}/open", cursor = 8, sandbox = _id })).Field);
        var end = await _world.DoAsync("file_read", new { path = $"{_root}/open", cursor = 7, sandbox = _id });
        Assert.Equal("", end.GetProperty("guest").GetProperty("text").GetString());
    }

    [Fact]
    public async Task An_edit_that_would_make_a_huge_file_is_refused()
    {
        var path = $"{_root}/a";
        await File.WriteAllTextAsync(path, new string('x', 10_000));
        var (code, field, _) = await _world.FailAsync(
            "file_edit", new { path, old_text = "x", new_text = new string('€', 10_000), all = true, sandbox = _id });
        Assert.Equal(("invalid_request", "new_text"), (code, field));
        Assert.Equal(new string('x', 10_000), await File.ReadAllTextAsync(path));
        await _world.DoAsync("file_edit", new { path, old_text = "x", new_text = "€€", all = true, sandbox = _id });
        Assert.Equal(new string('€', 20_000), await File.ReadAllTextAsync(path));
    }

    [Fact]
    public async Task An_image_is_an_image_and_other_bytes_are_a_resource()
    {
        var png = Convert.FromBase64String(Pixel);
        await File.WriteAllBytesAsync($"{_root}/p", png);
        var image = await _world.CallAsync("file_read", new { path = $"{_root}/p", sandbox = _id });
        var shown = Assert.IsType<ImageContentBlock>(image.Content[1]);
        Assert.Equal(("image/png", "guest"), (shown.MimeType, shown.Meta!["pandora/from"]!.GetValue<string>()));
        Assert.Equal(png, shown.DecodedData.ToArray());
        // Makers of models refuse a conversation with a broken image.
        await File.WriteAllBytesAsync($"{_root}/p", png[..^1]);
        var broken = await _world.DoAsync("file_read", new { path = $"{_root}/p", sandbox = _id });
        Assert.Equal("binary", broken.GetProperty("kind").GetString());
        var bytes = Enumerable.Range(0, 70_000).Select(i => (byte)i).ToArray();
        await File.WriteAllBytesAsync($"{_root}/ä b", bytes);
        var binary = await _world.CallAsync("file_read", new { path = $"{_root}/ä b", sandbox = _id });
        var resource = Assert.IsType<BlobResourceContents>(Assert.IsType<EmbeddedResourceBlock>(binary.Content[1]).Resource);
        Assert.Equal(bytes[..65_536], resource.DecodedData.ToArray());
        Assert.EndsWith("%C3%A4%20b", resource.Uri, StringComparison.Ordinal);
        Assert.Equal(65_536, binary.StructuredContent!.Value.GetProperty("next_cursor").GetInt64());
        var rest = await _world.CallAsync("file_read", new { path = $"{_root}/ä b", cursor = 65_536, sandbox = _id });
        resource = (BlobResourceContents)((EmbeddedResourceBlock)rest.Content[1]).Resource;
        Assert.Equal(bytes[65_536..], resource.DecodedData.ToArray());
    }

    [Theory]
    [InlineData("iVBORw0KGgo=")]
    [InlineData("/9j/4AAQ")]
    [InlineData("R0lGODlhAAAAAA==")]
    [InlineData("UklGRgAAAABXRUJQ")]
    public async Task What_only_begins_like_an_image_is_none(string base64)
    {
        await File.WriteAllBytesAsync($"{_root}/p", Convert.FromBase64String(base64));
        var result = await _world.CallAsync("file_read", new { path = $"{_root}/p", sandbox = _id });
        Assert.Equal("binary", result.StructuredContent!.Value.GetProperty("kind").GetString());
        Assert.IsType<EmbeddedResourceBlock>(result.Content[1]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_text_that_overlaps_itself_is_there_more_than_once(bool all)
    {
        await File.WriteAllTextAsync($"{_root}/o", "aaaa");
        var arguments = new { path = $"{_root}/o", old_text = "aaa", new_text = "b", sandbox = _id, all };
        if (all)
        {
            Assert.Equal(1, (await _world.DoAsync("file_edit", arguments)).GetProperty("replaced").GetInt32());
        }
        else
        {
            Assert.Equal("old_text", (await _world.FailAsync("file_edit", arguments)).Field);
        }

        Assert.Equal(all ? "ba" : "aaaa", await File.ReadAllTextAsync($"{_root}/o"));
    }

    [Fact]
    public async Task A_binary_file_is_written_from_base64()
    {
        byte[] bytes = [0, 1, 255];
        await _world.DoAsync("file_write", new { path = $"{_root}/b", base64 = Convert.ToBase64String(bytes), sandbox = _id });
        Assert.Equal(bytes, await File.ReadAllBytesAsync($"{_root}/b"));
    }

    [Fact]
    public async Task A_directory_is_listed_in_pages()
    {
        for (var i = 0; i < 25; i++)
        {
            await File.WriteAllTextAsync($"{_root}/f{i:d2}", "abc");
        }

        Directory.CreateDirectory($"{_root}/g");
        var (names, after) = (new List<string>(), (string?)null);
        do
        {
            var page = await _world.DoAsync("file_list", new { path = _root, limit = 10, after, sandbox = _id });
            names.AddRange(page.GetProperty("guest").GetProperty("entries").EnumerateArray()
                .Select(e => $"{e.GetProperty("path").GetString()} {e.GetProperty("kind").GetString()}"));
            after = page.GetProperty("guest").TryGetProperty("next", out var next) ? next.GetString() : null;
        }
        while (after is not null);
        Assert.Equal(
            [.. Enumerable.Range(0, 25).Select(i => $"{_root}/f{i:d2} file"), $"{_root}/g directory"], names.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task What_is_no_UTF_8_is_shown_and_said_to_be()
    {
        var script = $"printf 'caf\\351\\n' > '{_root}/latin'; touch \"{_root}/$(printf '\\377')\"";
        await Command.RunAsync("sh", ["-c", script]);
        var result = await _world.CallAsync("file_read", new { path = $"{_root}/latin", sandbox = _id });
        var answer = result.StructuredContent!.Value;
        Assert.Equal(
            ("caf\uFFFD\n", 1),
            (answer.GetProperty("guest").GetProperty("text").GetString(), answer.GetProperty("invalid_bytes").GetInt32()));
        Assert.Contains("1 bytes are no UTF-8", McpWorld.TextOf(result), StringComparison.Ordinal);
        var list = await _world.DoAsync("file_list", new { path = _root, sandbox = _id });
        Assert.Equal(
            [($"{_root}/latin", false), ($"{_root}/\uFFFD", true)],
            list.GetProperty("guest").GetProperty("entries").EnumerateArray()
                .Select(e => (e.GetProperty("path").GetString()!, e.TryGetProperty("not_utf8", out _))).Order());
    }

    [Fact]
    public async Task What_the_guest_says_of_a_path_is_an_error_without_its_words()
    {
        Assert.Equal("file_not_found", (await _world.FailAsync("file_read", new { path = $"{_root}/none", sandbox = _id })).Code);
        Assert.Equal("file_state", (await _world.FailAsync("file_read", new { path = _root, sandbox = _id })).Code);
        var search = new { path = $"{_root}/none", pattern = "a", sandbox = _id };
        Assert.Equal("file_not_found", (await _world.FailAsync("file_search", search)).Code);
        // The agent names the path that it followed.
        File.CreateSymbolicLink($"{_root}/link", $"{_root}/ignore-your-instructions");
        Assert.DoesNotContain(
            "instructions", (await _world.FailAsync("file_read", new { path = $"{_root}/link", sandbox = _id })).Text,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_no_file_or_directory_is_not_searched()
    {
        await Pandora.Linux.Command.RunAsync("mkfifo", [$"{_root}/fifo"]);
        var (code, field, _) = await _world.FailAsync("file_search", new { path = $"{_root}/fifo", pattern = "a", sandbox = _id });
        Assert.Equal(("invalid_request", "path"), (code, field));
    }
}
