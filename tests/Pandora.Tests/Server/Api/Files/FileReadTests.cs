using System.Net.Sockets;
using System.Text;

namespace Pandora.Tests.Api.Files;

/// <summary>Files that are read over HTTP from the agent's real code.</summary>
public sealed class FileReadTests
{
    [Theory]
    [InlineData(null, 200, "0123456789", null)]
    [InlineData("bytes=0-0", 206, "0", "bytes 0-0/10")]
    [InlineData("bytes=3-5", 206, "345", "bytes 3-5/10")]
    [InlineData("bytes=3-", 206, "3456789", "bytes 3-9/10")]
    [InlineData("bytes=3-100", 206, "3456789", "bytes 3-9/10")]
    [InlineData("bytes=-3", 206, "789", "bytes 7-9/10")]
    [InlineData("bytes=-100", 206, "0123456789", "bytes 0-9/10")]
    [InlineData("bytes=0-1,4-5", 200, "0123456789", null)]
    [InlineData("bytes=5-3", 200, "0123456789", null)]
    [InlineData("bytes=10-", 416, null, "bytes */10")]
    [InlineData("bytes=-0", 416, null, "bytes */10")]
    public async Task A_range_is_answered_as_RFC_9110_says(string? range, int status, string? text, string? contentRange)
    {
        await using var files = await GuestFiles.StartAsync();
        await File.WriteAllTextAsync(files["a"], "0123456789");
        (string, string)[] headers = range is null ? [] : [("Range", range)];
        using var answer = await files.GetAsync("a", headers);
        using var head = await files.SendAsync(HttpMethod.Head, files.Address("a"), null, headers);
        // Section 14.2: a range is one of GET only.
        Assert.Equal((status, 200), ((int)answer.StatusCode, (int)head.StatusCode));
        Assert.Equal((10L, null), (head.Content.Headers.ContentLength, GuestFiles.HeaderOf(head, "Content-Range")));
        Assert.Equal(contentRange, GuestFiles.HeaderOf(answer, "Content-Range"));
        if (text is null)
        {
            Assert.Equal("file_range", await GuestFiles.CodeOf(answer));
            return;
        }

        Assert.Equal(text, await answer.Content.ReadAsStringAsync());
        Assert.Equal(text.Length, answer.Content.Headers.ContentLength);
        foreach (var each in new[] { answer, head })
        {
            Assert.Equal("0644", GuestFiles.HeaderOf(each, "X-Pandora-Mode"));
            Assert.Equal("bytes", GuestFiles.HeaderOf(each, "Accept-Ranges"));
            Assert.Equal("application/octet-stream", each.Content.Headers.ContentType?.MediaType);
            Assert.NotNull(each.Headers.ETag);
            Assert.NotNull(each.Content.Headers.LastModified);
        }
    }

    [Fact]
    public async Task Conditions_are_honoured()
    {
        await using var files = await GuestFiles.StartAsync();
        await File.WriteAllTextAsync(files["a"], "0123456789");
        using var first = await files.GetAsync("a");
        var tag = first.Headers.ETag!.Tag;
        async Task<(int, string)> GetAsync(params (string, string)[] headers)
        {
            using var answer = await files.GetAsync("a", headers);
            return ((int)answer.StatusCode, answer.IsSuccessStatusCode ? await answer.Content.ReadAsStringAsync() : "");
        }

        Assert.Equal((304, ""), await GetAsync(("If-None-Match", tag)));
        Assert.Equal((304, ""), await GetAsync(("If-None-Match", $"\"x\", W/{tag}")));
        Assert.Equal((304, ""), await GetAsync(("If-None-Match", "*")));
        Assert.Equal((200, "0123456789"), await GetAsync(("If-None-Match", "\"x\"")));
        Assert.Equal((200, "0123456789"), await GetAsync(("If-Match", $"\"x\", {tag}")));
        Assert.Equal((412, ""), await GetAsync(("If-Match", "\"x\"")));
        Assert.Equal((412, ""), await GetAsync(("If-Match", $"W/{tag}")));
        Assert.Equal((400, ""), await GetAsync(("If-Match", "no tag")));
        Assert.Equal((206, "01"), await GetAsync(("Range", "bytes=0-1"), ("If-Range", tag)));
        Assert.Equal((200, "0123456789"), await GetAsync(("Range", "bytes=0-1"), ("If-Range", "\"x\"")));
        Assert.Equal((200, "0123456789"), await GetAsync(("Range", "bytes=0-1"), ("If-Range", "Fri, 01 Jan 2038 00:00:00 GMT")));
        Assert.Equal((200, "0123456789"), await GetAsync(("If-Unmodified-Since", "Fri, 01 Jan 2038 00:00:00 GMT")));
        Assert.Equal((412, ""), await GetAsync(("If-Unmodified-Since", "Fri, 01 Jan 2010 00:00:00 GMT")));
        Assert.Equal((200, "0123456789"),
            await GetAsync(("If-Unmodified-Since", "Fri, 01 Jan 2010 00:00:00 GMT"), ("If-Match", tag)));
        await File.WriteAllTextAsync(files["a"], "something else");
        Assert.Equal((200, "something else"), await GetAsync(("If-None-Match", tag)));
    }

    [Theory]
    [InlineData("/proc/self/status")]
    [InlineData("/proc/version")]
    public async Task A_file_without_a_size_is_sent_to_its_end(string path)
    {
        await using var files = await GuestFiles.StartAsync();
        using var answer = await files.SendAsync(
            HttpMethod.Get, $"/sandboxes/{files.Id}/files?path={path}", null, ("Range", "bytes=0-3"));
        Assert.Equal((200, true), ((int)answer.StatusCode, (await answer.Content.ReadAsByteArrayAsync()).Length > 10));
        // Its content changes, and its times do not.
        using var again = await files.SendAsync(
            HttpMethod.Get, $"/sandboxes/{files.Id}/files?path={path}", null, ("If-None-Match", answer.Headers.ETag?.Tag ?? "*"));
        Assert.Equal(200, (int)again.StatusCode);
    }

    [Fact]
    public async Task An_empty_file_has_the_length_zero()
    {
        await using var files = await GuestFiles.StartAsync();
        await File.WriteAllTextAsync(files["a"], "");
        using var answer = await files.GetAsync("a");
        Assert.Equal((200, 0L, ""),
            ((int)answer.StatusCode, answer.Content.Headers.ContentLength, await answer.Content.ReadAsStringAsync()));
    }

    [Theory]
    [InlineData("", 400, "invalid_request")]
    [InlineData("?path=", 400, "invalid_request")]
    [InlineData("?path=/etc/passwd&path=/etc/group", 400, "invalid_request")]
    [InlineData("?path=/a%00b", 400, "invalid_request")]
    [InlineData("?path=/etc/passwd&user=No%20Name", 400, "invalid_request")]
    [InlineData("?path=/etc/passwd&user=no-such-user", 400, "invalid_request")]
    [InlineData("?path=/no/such/file", 404, "file_not_found")]
    [InlineData("?path=/etc", 409, "file_state")]
    [InlineData("?path=/dev/null", 409, "file_state")]
    [InlineData("?path=/etc/passwd/x", 409, "file_state")]
    public async Task A_wrong_request_is_answered_clearly(string query, int status, string code)
    {
        await using var files = await GuestFiles.StartAsync();
        using var answer = await files.SendAsync(HttpMethod.Get, $"/sandboxes/{files.Id}/files{query}");
        Assert.Equal((status, code), ((int)answer.StatusCode, await GuestFiles.CodeOf(answer)));
    }

    [Fact]
    public async Task A_path_that_is_too_long_is_refused_and_one_of_a_long_name_too()
    {
        await using var files = await GuestFiles.StartAsync();
        foreach (var path in new[] { new string('a', 4096), "/" + new string('a', 256) })
        {
            using var answer = await files.SendAsync(HttpMethod.Get, $"/sandboxes/{files.Id}/files?path={path}");
            Assert.Equal(400, (int)answer.StatusCode);
            Assert.Equal("path", (await GuestFiles.JsonOf(answer)).GetProperty("errors").EnumerateObject().Single().Name);
        }
    }

    [Fact]
    public async Task A_name_that_is_not_UTF_8_travels()
    {
        await using var files = await GuestFiles.StartAsync();
        // HttpClient would encode the byte.
        using var put = await files.PutAsync("%FF%2B+%25", "bytes");
        Assert.Equal(201, (int)put.StatusCode);
        var entry = await GuestFiles.JsonOf(put);
        Assert.Equal("\uFFFD+ %", entry.GetProperty("name").GetString());
        var path = Convert.FromBase64String(entry.GetProperty("path_base64").GetString()!);
        Assert.Equal([.. Encoding.UTF8.GetBytes(files.Root + "/"), 0xFF, .. "+ %"u8], path);
        using var answer = await files.GetAsync("%ff%2b%20%25");
        Assert.Equal("bytes", await answer.Content.ReadAsStringAsync());
        using var info = await files.SendAsync(HttpMethod.Get, files.Address("%FF%2B+%25", "/info"));
        Assert.Equal(entry.GetRawText(), (await GuestFiles.JsonOf(info)).GetRawText());
    }

    [Fact]
    public async Task A_client_that_leaves_frees_its_place()
    {
        await using var files = await GuestFiles.StartAsync();
        using (var file = File.OpenHandle(files["a"], FileMode.Create, FileAccess.Write))
        {
            RandomAccess.SetLength(file, 1L << 30);
        }

        for (var i = 0; i < 40; i++)
        {
            HttpResponseMessage answer;
            do
            {
                answer = await files.Server.Http.GetAsync(files.Address("a"), HttpCompletionOption.ResponseHeadersRead);
            }
            while ((int)answer.StatusCode == 429 && i > 0);
            Assert.Equal(200, (int)answer.StatusCode);
            answer.Dispose();
        }
    }

    [Fact]
    public async Task A_socket_is_not_opened()
    {
        await using var files = await GuestFiles.StartAsync();
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(files["socket"]));
        using var answer = await files.GetAsync("socket");
        Assert.Equal("file_state", await GuestFiles.CodeOf(answer));
    }
}
