namespace Pandora.TestHost;

/// <summary>
/// A world and a server in it, for the tests of one class. After them the server is stopped, and nothing may remain on the host.
/// </summary>
public abstract class ServerInWorld : IAsyncDisposable
{
    internal TestWorld World { get; private set; } = null!;

    internal ServerProcess Server { get; private set; } = null!;

    /// <summary>The server's environment variables.</summary>
    internal virtual Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2" };

    public virtual async ValueTask InitializeAsync()
    {
        World = await TestWorld.CreateAsync();
        await PrepareAsync();
        Server = await ServerProcess.StartAsync(World, Settings);
    }

    public virtual async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        try
        {
            if (Server is not null)
            {
                await Server.DisposeAsync();
            }
        }
        finally
        {
            if (World is not null)
            {
                await World.DisposeAsync();
            }
        }
    }

    /// <summary>Makes what the server needs before it starts.</summary>
    internal virtual Task PrepareAsync() => Task.CompletedTask;
}
