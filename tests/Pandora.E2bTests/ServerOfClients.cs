using Pandora.TestHost;

namespace Pandora.E2bTests;

/// <summary>
/// A world and a server for E2B's clients, which reach it by one address. It needs a key, as a server of several people does.
/// </summary>
public class ServerOfClients : IAsyncLifetime
{
    private static readonly string Key = $"e2b_{new string('0', 40)}";

    internal TestWorld World { get; private set; } = null!;

    internal ServerProcess Server { get; private set; } = null!;

    /// <summary>Arguments of node before those of the program.</summary>
    internal virtual IReadOnlyList<string> NodeArguments => [];

    /// <summary>What a person sets for a client.</summary>
    internal virtual Dictionary<string, string> Environment => new()
    {
        ["E2B_API_KEY"] = Key,
        ["E2B_API_URL"] = "http://127.0.0.1:8000/e2b",
        ["E2B_SANDBOX_URL"] = "http://127.0.0.1:8000/e2b",
    };

    private protected virtual Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_API_KEYS"] = Key };

    public virtual async ValueTask InitializeAsync()
    {
        if (Clients.Missing is not null)
        {
            return;
        }

        World = await TestWorld.CreateAsync();
        World.Listen(World.Internet, TestWorld.InternetAddress, 7);
        await PrepareAsync();
        Server = await ServerProcess.StartAsync(World, Settings);
    }

    /// <summary>Ends the sandboxes that scenarios left when they failed, so that they hinder no others.</summary>
    internal async Task EndSandboxesAsync()
    {
        foreach (var sandbox in await Server.Pandora.ListAsync())
        {
            await Server.Pandora.DeleteAsync(sandbox.Id);
        }
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

    private protected virtual Task PrepareAsync() => Task.CompletedTask;
}
