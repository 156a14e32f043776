using System.Net.ServerSentEvents;
using System.Text;
using System.Text.Json;

namespace Pandora.Tests.Api;

/// <summary>A client that reads events one by one.</summary>
internal sealed class ServerEvents : IAsyncDisposable
{
    private readonly HttpResponseMessage _response;
    private readonly IAsyncEnumerator<SseItem<string>> _events;

    private ServerEvents(HttpResponseMessage response, IAsyncEnumerator<SseItem<string>> events) =>
        (_response, _events) = (response, events);

    public static async Task<ServerEvents> OpenAsync(HttpClient http, HttpMethod method, string path, string? body = null,
        params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path);
        request.Headers.TryAddWithoutValidation("Accept", "text/event-stream");
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        request.Content = body is null ? null : new StringContent(body, Encoding.UTF8, "application/json");
        var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal((200, "text/event-stream"), ((int)response.StatusCode, response.Content.Headers.ContentType?.MediaType));
        var events = SseParser.Create(await response.Content.ReadAsStreamAsync()).EnumerateAsync();
        return new ServerEvents(response, events.GetAsyncEnumerator());
    }

    /// <summary>The next event; null at the end of the stream.</summary>
    public async Task<(string Type, JsonElement Data, string? Id)?> NextAsync()
    {
        return await _events.MoveNextAsync().AsTask().WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System)
            ? (_events.Current.EventType, JsonDocument.Parse(_events.Current.Data).RootElement, _events.Current.EventId)
            : null;
    }

    public async Task<JsonElement> NextAsync(string type)
    {
        var next = await NextAsync();
        Assert.Equal(type, next?.Type);
        return next!.Value.Data;
    }

    /// <summary>The next output as text.</summary>
    public async Task<string?> TextAsync(string type = "stdout") => (await NextAsync(type)).GetProperty("data").GetString();

    public async Task<List<(string Type, JsonElement Data, string? Id)>> RestAsync()
    {
        var rest = new List<(string Type, JsonElement Data, string? Id)>();
        while (await NextAsync() is { } next)
        {
            rest.Add(next);
        }

        return rest;
    }

    public async ValueTask DisposeAsync()
    {
        _response.Dispose();
        try
        {
            await _events.DisposeAsync();
        }
        catch (Exception e) when (e is NotSupportedException or IOException)
        {
            // A read is under way.
        }
    }
}
