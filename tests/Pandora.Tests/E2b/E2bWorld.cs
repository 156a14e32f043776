using System.Buffers.Binary;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Pandora.Fakes;

namespace Pandora.Tests.E2b;

/// <summary>A fake server with a sandbox that was made through the E2B front end.</summary>
internal sealed class E2bWorld(FakeServer api, string id, string token) : IAsyncDisposable
{
    public FakeServer Api => api;

    public string Id => id;

    public string Token => token;

    public FakeGuest Guest => api.Node.GuestOf(id);

    public static async Task<E2bWorld> StartAsync(string sandbox = """{"templateID": "base"}""")
    {
        var api = await FakeServer.StartAsync(onLoopback: true);
        var created = await api.SendAsync(HttpMethod.Post, "/e2b/v2/sandboxes", sandbox);
        Assert.Equal(201, created.Status);
        return new E2bWorld(
            api, created.Body.GetProperty("sandboxID").GetString()!, created.Body.GetProperty("envdAccessToken").GetString()!);
    }

    /// <summary>A request to the agent's port, with the token unless another one is given.</summary>
    public HttpRequestMessage Request(HttpMethod method, string path, byte[]? body = null, string? type = null, string? shown = null)
    {
        var request = new HttpRequestMessage(method, $"/e2b{path}");
        request.Headers.Add("E2b-Sandbox-Id", id);
        request.Headers.Add("E2b-Sandbox-Port", "49983");
        request.Headers.Add("X-Access-Token", shown ?? token);
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body);
            request.Content.Headers.ContentType = type is null ? null : MediaTypeHeaderValue.Parse(type);
        }

        return request;
    }

    /// <summary>A call with one answer.</summary>
    public async Task<(int Status, JsonElement Body)> CallAsync(string name, string message)
    {
        using var request = Request(HttpMethod.Post, $"/{name}", Encoding.UTF8.GetBytes(message), "application/json");
        using var answer = await api.Http.SendAsync(request);
        return ((int)answer.StatusCode, JsonDocument.Parse(await answer.Content.ReadAsStringAsync()).RootElement);
    }

    /// <summary>Opens a call with a stream of answers.</summary>
    public async Task<E2bStream> OpenAsync(string name, string message, params (string Name, string Value)[] headers)
    {
        using var request = Request(HttpMethod.Post, $"/{name}", Frame(message), "application/connect+json");
        headers.ToList().ForEach(h => request.Headers.Add(h.Name, h.Value));
        var answer = await api.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal((200, "application/connect+json"), ((int)answer.StatusCode, answer.Content.Headers.ContentType!.ToString()));
        return new E2bStream(answer, await answer.Content.ReadAsStreamAsync());
    }

    public static byte[] Frame(string message, byte flags = 0)
    {
        var bytes = Encoding.UTF8.GetBytes(message);
        var frame = new byte[bytes.Length + 5];
        frame[0] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), bytes.Length);
        bytes.CopyTo(frame, 5);
        return frame;
    }

    public ValueTask DisposeAsync() => api.DisposeAsync();
}

/// <summary>A stream of answers.</summary>
internal sealed class E2bStream(HttpResponseMessage answer, Stream body) : IDisposable
{
    /// <summary>Reads the next message; its flags are 2 at the end of the stream.</summary>
    public async Task<(int Flags, JsonElement Message)> NextAsync()
    {
        var header = new byte[5];
        await body.ReadExactlyAsync(header);
        var message = new byte[BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(1))];
        await body.ReadExactlyAsync(message);
        return (header[0], JsonDocument.Parse(message).RootElement);
    }

    /// <summary>Reads the next event.</summary>
    public async Task<JsonElement> EventAsync(string kind)
    {
        var (flags, message) = await NextAsync();
        Assert.Equal(0, flags);
        return message.GetProperty("event").GetProperty(kind);
    }

    /// <summary>Reads the last message, after which nothing comes.</summary>
    public async Task<JsonElement> EndAsync()
    {
        var (flags, message) = await NextAsync();
        Assert.Equal(2, flags);
        Assert.Equal(0, await body.ReadAsync(new byte[1]));
        return message;
    }

    public void Dispose() => answer.Dispose();
}
