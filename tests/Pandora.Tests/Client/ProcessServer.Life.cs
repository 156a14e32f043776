using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Logging;

namespace Pandora.Tests.Client;

/// <summary>Its start, stop and restart.</summary>
internal sealed partial class ProcessServer
{
    public static async Task<ProcessServer> StartAsync()
    {
        ProcessServer? server = null;
        var app = Build("http://127.0.0.1:0", () => server!);
        await app.StartAsync();
        return server = new ProcessServer(app);
    }

    /// <summary>Is down for a while, as at a restart.</summary>
    public async Task RestartAsync(Task meanwhile)
    {
        await DisposeAsync();
        await meanwhile;
        // A connection of another test may have the port for a moment.
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1), TimeProvider.System);
        while (true)
        {
            _app = Build(_url, () => this);
            try
            {
                await _app.StartAsync();
                return;
            }
            catch (IOException) when (!limit.IsCancellationRequested)
            {
                await _app.DisposeAsync();
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
            }
        }
    }

    /// <summary>Is gone, with its connections.</summary>
    public async Task StopAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _app.StopAsync(now.Token);
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        await _app.DisposeAsync();
    }

    private static WebApplication Build(string url, Func<ProcessServer> server)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls(url);
        builder.WebHost.ConfigureKestrel(o => o.Limits.MaxRequestBodySize = null);
        builder.Logging.ClearProviders();
        var app = builder.Build();
        app.UseWebSockets();
        app.Run(context => server().AnswerAsync(context));
        return app;
    }
}
