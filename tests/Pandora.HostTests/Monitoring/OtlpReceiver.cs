using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pandora.HostTests.Monitoring.Otlp;
using Pandora.TestHost;

namespace Pandora.HostTests.Monitoring;

/// <summary>An OTLP endpoint (HTTP, protobuf) in a namespace. It decodes the spans, and answers 415 to other content types.</summary>
internal sealed class OtlpReceiver : IAsyncDisposable
{
    private readonly WebApplication _app;

    private OtlpReceiver(WebApplication app) => _app = app;

    public ConcurrentQueue<(string Service, string Scope, Span Span)> Spans { get; } = [];

    public static async Task<OtlpReceiver> StartAsync(NetworkNamespace place, int port)
    {
        var socket = place.Run(() =>
        {
            var made = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            made.Bind(new IPEndPoint(IPAddress.Loopback, port));
            return made;
        });
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(k => k.ListenHandle((ulong)socket.SafeHandle.DangerousGetHandle()));
        // Kestrel owns the descriptor from here on.
        socket.SafeHandle.SetHandleAsInvalid();
        var app = builder.Build();
        var receiver = new OtlpReceiver(app);
        app.MapPost("/v1/traces", receiver.ReceiveAsync);
        await app.StartAsync();
        return receiver;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task<IResult> ReceiveAsync(HttpRequest request)
    {
        if (request.ContentType != "application/x-protobuf")
        {
            return Results.StatusCode(415);
        }

        using var body = new MemoryStream();
        await request.Body.CopyToAsync(body);
        foreach (var resource in ExportRequest.Parser.ParseFrom(body.ToArray()).ResourceSpans)
        {
            var service = resource.Resource.Attributes.Single(a => a.Key == "service.name").Value.StringValue;
            foreach (var (scope, span) in resource.ScopeSpans.SelectMany(s => s.Spans.Select(span => (s.Scope.Name, span))))
            {
                Spans.Enqueue((service, scope, span));
            }
        }

        return Results.Bytes([], "application/x-protobuf");
    }
}
