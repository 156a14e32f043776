using System.Formats.Tar;
using System.IO.Compression;
using System.Net.Http.Json;
using Pandora.Fakes;
using Pandora.Server.Audit;
using Pandora.Tests.Audit;

namespace Pandora.Tests.Api.Files;

/// <summary>Directories over HTTP on the agent's real code: lists, changes, archives and watches.</summary>
public sealed class FileTreeTests
{
    [Fact]
    public async Task A_list_is_paged_by_an_opaque_position()
    {
        await using var files = await GuestFiles.StartAsync();
        foreach (var name in new[] { "a/1", "a/2", "b/c/3", "d" })
        {
            using var put = await files.PutAsync(name, name);
            Assert.Equal(201, (int)put.StatusCode);
        }

        using var odd = await files.PutAsync("e%FF", "");
        var (names, next, pages) = (new List<string?>(), (string?)null, 0);
        do
        {
            using var answer = await files.SendAsync(
                HttpMethod.Get, files.Address("", "/list", $"&depth=3&limit=2{(next is null ? "" : $"&after={next}")}"));
            Assert.Equal(200, (int)answer.StatusCode);
            var page = await GuestFiles.JsonOf(answer);
            names.AddRange(page.GetProperty("entries").EnumerateArray()
                .Select(e => Path.GetRelativePath(files.Root, e.GetProperty("path").GetString()!)));
            next = page.TryGetProperty("next", out var position) ? position.GetString() : null;
            pages++;
        }
        while (next is not null);
        Assert.Equal(["a", "a/1", "a/2", "b", "b/c", "b/c/3", "d", "e\uFFFD"], names);
        Assert.Equal(4, pages);
    }

    [Theory]
    [InlineData("&depth=0", "depth")]
    [InlineData("&depth=65", "depth")]
    [InlineData("&depth=x", "depth")]
    [InlineData("&limit=0", "limit")]
    [InlineData("&limit=10001", "limit")]
    [InlineData("&after=!", "after")]
    [InlineData("&after=", "after")]
    public async Task A_wrong_parameter_of_a_list_is_named(string more, string field)
    {
        await using var files = await GuestFiles.StartAsync();
        using var answer = await files.SendAsync(HttpMethod.Get, files.Address("", "/list", more));
        Assert.Equal(400, (int)answer.StatusCode);
        Assert.Equal(field, (await GuestFiles.JsonOf(answer)).GetProperty("errors").EnumerateObject().Single().Name);
    }

    [Fact]
    public async Task Directories_are_made_files_moved_copied_and_deleted()
    {
        await using var files = await GuestFiles.StartAsync();
        Assert.Equal((201, null), await PostAsync(files, "mkdir", new { path = files["a/b"], mode = "700", user = AgentFiles.OwnUser }));
        Assert.Equal((200, null), await PostAsync(files, "mkdir", new { path = files["a/b"], user = AgentFiles.OwnUser }));
        Assert.Equal((409, "file_exists"), await PostAsync(files, "mkdir", new { path = files["a/b"], parents = false }));
        using var put = await files.PutAsync("a/b/file", "text");
        Assert.Equal((200, null), await PostAsync(files, "copy", new { from = files["a/b/file"], to = files["copy"] }));
        Assert.Equal((409, "file_exists"), await PostAsync(files, "copy", new { from = files["a/b/file"], to = files["copy"] }));
        Assert.Equal((200, null), await PostAsync(files, "copy", new { from = files["a/b/file"], to = files["copy"], replace = true }));
        Assert.Equal((409, "file_state"), await PostAsync(files, "copy", new { from = files["a"], to = files["tree"] }));
        Assert.Equal((200, null), await PostAsync(files, "copy", new { from = files["a"], to = files["tree"], recursive = true }));
        Assert.Equal((200, null), await PostAsync(files, "move", new { from = files["copy"], to = files["x/moved"] }));
        Assert.Equal((404, "file_not_found"), await PostAsync(files, "move", new { from = files["copy"], to = files["x/moved"] }));
        Assert.Equal("text", await File.ReadAllTextAsync(files["x/moved"]));
        Assert.Equal("text", await File.ReadAllTextAsync(files["tree/b/file"]));

        using var full = await files.SendAsync(HttpMethod.Delete, files.Address("tree"));
        Assert.Equal("file_exists", await GuestFiles.CodeOf(full));
        using var deleted = await files.SendAsync(HttpMethod.Delete, files.Address("tree", more: "&recursive=true"));
        using var again = await files.SendAsync(HttpMethod.Delete, files.Address("tree"));
        Assert.Equal((204, 404, false), ((int)deleted.StatusCode, (int)again.StatusCode, Directory.Exists(files["tree"])));
    }

    [Theory]
    [InlineData("mkdir", """{}""", "path")]
    [InlineData("mkdir", """{"path": "/a", "path_base64": "L2E="}""", "path")]
    [InlineData("mkdir", """{"path_base64": "!"}""", "path_base64")]
    [InlineData("mkdir", """{"path": ""}""", "path")]
    [InlineData("mkdir", """{"path": "/a\u0000"}""", "path")]
    [InlineData("mkdir", """{"path": "/a", "mode": "rwx"}""", "mode")]
    [InlineData("mkdir", """{"path": "/a", "owner": "::"}""", "owner")]
    [InlineData("mkdir", """{"path": "/a", "user": "NO"}""", "user")]
    [InlineData("mkdir", """{"path": "/a", "depth": 1}""", "depth")]
    [InlineData("move", """{"from": "/a"}""", "to")]
    [InlineData("move", """{"to": "/a"}""", "from")]
    [InlineData("copy", """{"from": "/a", "to": ""}""", "to")]
    [InlineData("copy", """{"from_base64": "AA==", "to": "/a"}""", "from")]
    public async Task A_wrong_field_is_named(string route, string body, string field)
    {
        await using var files = await GuestFiles.StartAsync();
        var answer = await files.Server.SendAsync(HttpMethod.Post, $"/sandboxes/{files.Id}/files/{route}", body);
        Assert.Equal((400, field), (answer.Status, answer.Body.GetProperty("errors").EnumerateObject().Single().Name));
    }

    [Theory]
    [InlineData("", "application/x-tar")]
    [InlineData("&compression=gzip", "application/gzip")]
    public async Task An_archive_travels_both_ways(string compression, string type)
    {
        await using var files = await GuestFiles.StartAsync();
        var content = new string('x', 300_000);
        (await files.PutAsync("from/a/file", content, "&mode=640")).Dispose();
        (await files.PutAsync("from/%FF", "odd")).Dispose();
        File.CreateSymbolicLink(files["from/link"], "a/file");
        using var packed = await files.SendAsync(HttpMethod.Get, files.Address("from", "/tar", compression));
        Assert.Equal((200, type), ((int)packed.StatusCode, packed.Content.Headers.ContentType?.MediaType));
        var archive = await packed.Content.ReadAsByteArrayAsync();
        Assert.Equal(compression.Length > 0, archive.Length < 10_000);

        using var unpacked = await files.SendAsync(HttpMethod.Put, files.Address("to", "/tar", compression), new ByteArrayContent(archive));
        Assert.Equal(200, (int)unpacked.StatusCode);
        Assert.Equal(content.Length + 3, (await GuestFiles.JsonOf(unpacked)).GetProperty("bytes").GetInt64());
        Assert.Equal(content, await File.ReadAllTextAsync(files["to/a/file"]));
        Assert.Equal("a/file", new FileInfo(files["to/link"]).LinkTarget);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, File.GetUnixFileMode(files["to/a/file"]));
        using var odd = await files.GetAsync("to/%FF");
        Assert.Equal("odd", await odd.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task A_body_with_the_encoding_gzip_is_decompressed()
    {
        await using var files = await GuestFiles.StartAsync();
        using var memory = new MemoryStream();
        await using (var gzip = new GZipStream(memory, CompressionLevel.Fastest, leaveOpen: true))
        {
            await using var writer = new TarWriter(gzip, TarEntryFormat.Pax);
            await writer.WriteEntryAsync(new PaxTarEntry(TarEntryType.RegularFile, "one")
            {
                DataStream = new MemoryStream("1"u8.ToArray()),
            });
        }

        var bytes = memory.ToArray();
        async Task<(int, string?)> PutAsync(byte[] body, string? encoding, string more = "")
        {
            using var content = new ByteArrayContent(body);
            if (encoding is not null)
            {
                content.Headers.ContentEncoding.Add(encoding);
            }

            using var answer = await files.SendAsync(HttpMethod.Put, files.Address("to", "/tar", more), content);
            var json = await GuestFiles.JsonOf(answer);
            return ((int)answer.StatusCode,
                json.TryGetProperty("errors", out var errors) ? errors.EnumerateObject().Single().Name : null);
        }

        Assert.Equal((200, null), await PutAsync(bytes, "gzip"));
        Assert.Equal("1", await File.ReadAllTextAsync(files["to/one"]));
        Assert.Equal((400, "Content-Encoding"), await PutAsync(bytes, "br"));
        Assert.Equal((400, "body"), await PutAsync(bytes[..^20], "gzip"));
        Assert.Equal((400, "body"), await PutAsync("no gzip"u8.ToArray(), null, "&compression=gzip"));
        Assert.Equal((400, "body"), await PutAsync(bytes, null));
        Assert.Equal((400, "body"), await PutAsync([], "gzip"));
        Assert.Equal((400, "compression"), await PutAsync(bytes, null, "&compression=zip"));
    }

    [Fact]
    public async Task An_archive_that_leads_out_is_refused_by_name()
    {
        await using var files = await GuestFiles.StartAsync();
        using var memory = new MemoryStream();
        await using (var writer = new TarWriter(memory, TarEntryFormat.Pax, leaveOpen: true))
        {
            await writer.WriteEntryAsync(new PaxTarEntry(TarEntryType.RegularFile, "../out")
            {
                DataStream = new MemoryStream("1"u8.ToArray()),
            });
        }

        using var answer = await files.SendAsync(HttpMethod.Put, files.Address("to", "/tar"), new ByteArrayContent(memory.ToArray()));
        var problem = await GuestFiles.JsonOf(answer);
        Assert.Equal(400, (int)answer.StatusCode);
        Assert.Contains("../out", problem.GetProperty("detail").GetString(), StringComparison.Ordinal);
        Assert.False(File.Exists(files["out"]));
    }

    [Fact]
    public async Task A_watch_tells_what_happens()
    {
        await using var files = await GuestFiles.StartAsync();
        await using var watch = await ServerEvents.OpenAsync(files.Server.Http, HttpMethod.Get, files.Address("", "/watch"));
        Assert.Equal("{}", (await watch.NextAsync("started")).GetRawText());
        using var put = await files.PutAsync("a", "text");
        var seen = new List<string?>();
        while (seen is not [.., "a"])
        {
            var next = (await watch.NextAsync())!.Value;
            seen.Add(next.Data.TryGetProperty("path", out var path) ? path.GetString() : null);
        }

        Directory.Delete(files.Root, recursive: true);
        var rest = await watch.RestAsync();
        Assert.Equal("gone", rest[^1].Type);
        Directory.CreateDirectory(files.Root);
        using var missing = await files.SendAsync(HttpMethod.Get, files.Address("none", "/watch"));
        Assert.Equal("file_not_found", await GuestFiles.CodeOf(missing));
    }

    [Fact]
    public async Task The_audit_has_paths_bytes_and_outcomes()
    {
        await using var audited = await AuditedServer.StartAsync();
        await using var files = await GuestFiles.StartAsync(audited.Server);
        var root = files.Root;
        (await files.PutAsync("a%0Ab", "text")).Dispose();
        (await files.GetAsync("a%0Ab", ("Range", "bytes=0-1"))).Dispose();
        (await files.GetAsync("none")).Dispose();
        (await files.SendAsync(HttpMethod.Get, files.Address("", "/list"))).Dispose();
        await PostAsync(files, "move", new { from = files["a\nb"], to = files["c"] });
        (await files.SendAsync(HttpMethod.Delete, files.Address("c"))).Dispose();
        await using (var watch = await ServerEvents.OpenAsync(files.Server.Http, HttpMethod.Get, files.Address("", "/watch")))
        {
            await watch.NextAsync("started");
        }

        // The server notices a client that goes away a moment later.
        await FakeNode.UntilAsync(() => AuditReader.Read(audited.Folder).Any(l => l.Text.Contains("file_watch", StringComparison.Ordinal)));
        var lines = (await audited.StopAsync()).Where(
            l => l.GetProperty("operation").GetString()!.StartsWith("file_", StringComparison.Ordinal));
        Assert.Equal(
            [
                $"file_write {root}/a%0Ab - 4 ok", $"file_read {root}/a%0Ab - 2 ok", $"file_read {root}/none - - file_not_found",
                $"file_change {root}/a%0Ab {root}/c - ok", $"file_change {root}/c - - ok", $"file_watch {root}/ - - ok",
            ],
            lines.Select(l => string.Join(' ', new[] { "operation", "path", "target", "bytes", "outcome" }
                .Select(m => l.TryGetProperty(m, out var value) ? $"{value}" : "-"))));
    }

    private static async Task<(int Status, string? Code)> PostAsync(GuestFiles files, string route, object body)
    {
        using var content = JsonContent.Create(body);
        using var answer = await files.SendAsync(HttpMethod.Post, $"/sandboxes/{files.Id}/files/{route}", content);
        return ((int)answer.StatusCode, answer.IsSuccessStatusCode ? null : await GuestFiles.CodeOf(answer));
    }
}
