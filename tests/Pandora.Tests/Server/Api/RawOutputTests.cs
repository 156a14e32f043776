using Pandora.Engine.Guests;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>Output as raw bytes: whole, or cut where it is not.</summary>
public sealed class RawOutputTests
{
    [Fact]
    public async Task The_bytes_come_from_an_offset_on_to_the_end()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        guest.PieceSize = 3;
        var process = await EventStreamTests.StartAsync(api, id);
        var run = guest.RunOf(process);
        run.Write(OutputStream.Stdout, 0xFF, 0x61, 0xC3);
        run.Write(OutputStream.Stderr, "oh"u8);
        run.Write("more");
        using var open = await OpenAsync(api, id, process);
        run.EndWith(0);
        Assert.Equal([0xFF, 0x61, 0xC3, .. "ohmore"u8], await open.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
        Assert.Equal("ohmore", await ReadAsync(api, id, process, "?from=3", expected: 3));
        Assert.Equal("oh", await ReadAsync(api, id, process, "?stream=stderr", expected: 0));
        Assert.Equal("more", await ReadAsync(api, id, process, "?stream=stdout&from=3", expected: 3));
        Assert.Equal("", await ReadAsync(api, id, process, "?from=9", expected: 9));
        Assert.Equal("ore", await ReadAsync(api, id, process, "?from=6&follow=false", expected: 6));
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task The_headers_of_a_quiet_process_come_at_once_and_its_output_as_it_is_written()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id);
        guest.RunOf(process).Write("old");
        using var response = await OpenAsync(api, id, process, "?from=-1").WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
        Assert.Equal("3", response.Headers.GetValues("Pandora-Offset").Single());
        await using var body = await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
        guest.RunOf(process).Write("new");
        var bytes = new byte[3];
        await body.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken);
        Assert.Equal("new"u8, bytes);
    }

    [Fact]
    public async Task Nothing_follows_where_output_is_missing_and_the_answer_does_not_end_as_if_it_were_whole()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        guest.KeptBytes = 4;
        var process = await EventStreamTests.StartAsync(api, id);
        var run = guest.RunOf(process);
        run.Write("0123456789");
        // The header says where it begins.
        using var first = await OpenAsync(api, id, process);
        Assert.Equal("6", first.Headers.GetValues("Pandora-Offset").Single());
        await using var body = await first.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
        var bytes = new byte[4];
        await body.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken);
        run.Write("abcdefgh");
        await Assert.ThrowsAnyAsync<Exception>(async () => await body.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken));

        using var second = await OpenAsync(api, id, process);
        await using var rest = await second.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
        await rest.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken);
        Assert.Equal("efgh"u8, bytes);
        run.DropTo(20);
        run.EndWith(0);
        await Assert.ThrowsAnyAsync<Exception>(async () => await rest.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task The_end_of_the_sandbox_cuts_the_answer()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, _) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id);
        using var response = await OpenAsync(api, id, process);
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
        await Assert.ThrowsAnyAsync<Exception>(() => response.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
    }

    private static async Task<string> ReadAsync(FakeServer api, string id, string process, string query, long expected)
    {
        using var response = await OpenAsync(api, id, process, query);
        Assert.Equal($"{expected}", response.Headers.GetValues("Pandora-Offset").Single());
        return await response.Content.ReadAsStringAsync();
    }

    private static async Task<HttpResponseMessage> OpenAsync(FakeServer api, string id, string process, string query = "")
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/sandboxes/{id}/processes/{process}/output{query}");
        request.Headers.TryAddWithoutValidation("Accept", "application/octet-stream");
        var response = await api.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal((200, "application/octet-stream"), ((int)response.StatusCode, response.Content.Headers.ContentType?.MediaType));
        return response;
    }
}
