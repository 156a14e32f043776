namespace Pandora.TestHost.Scenarios;

/// <summary>A world and a server for scenarios that clients from npm run, in the server's namespace.</summary>
public abstract class ServerOfScenarios : ServerInWorld
{
    /// <summary>Arguments of node before those of the program.</summary>
    internal virtual IReadOnlyList<string> NodeArguments => [];

    /// <summary>What a person sets for a client.</summary>
    internal abstract Dictionary<string, string> Environment { get; }

    /// <summary>The clients. Without them no server is started.</summary>
    internal abstract NpmClients Clients { get; }

    /// <inheritdoc/>
    public override async ValueTask InitializeAsync()
    {
        if (Clients.Missing is null)
        {
            await base.InitializeAsync();
        }
    }

    /// <summary>Ends the sandboxes that scenarios left when they failed, so that they hinder no others.</summary>
    internal async Task EndSandboxesAsync()
    {
        foreach (var sandbox in await Server.Pandora.ListAsync())
        {
            await Server.Pandora.DeleteAsync(sandbox.Id);
        }
    }
}
