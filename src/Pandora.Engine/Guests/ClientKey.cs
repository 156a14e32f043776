using Pandora.Linux;
using Renci.SshNet;

namespace Pandora.Engine.Guests;

/// <summary>The server's own SSH key pair, by which guests know it. Made on first use, private to root.</summary>
public sealed class ClientKey : IDisposable
{
    private ClientKey(PrivateKeyFile privateKey, string publicLine)
    {
        PrivateKey = privateKey;
        PublicLine = publicLine;
    }

    /// <summary>For the SSH client.</summary>
    public PrivateKeyFile PrivateKey { get; }

    /// <summary>For <c>authorized_keys</c>.</summary>
    public string PublicLine { get; }

    /// <summary>Loads the key pair of a data directory, making it where there is none.</summary>
    public static async Task<ClientKey> LoadAsync(string dataDir, CancellationToken cancellationToken)
    {
        var directory = Path.Combine(dataDir, "keys");
        var path = Path.Combine(directory, "pandora");
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        if (!File.Exists(path) || !File.Exists(path + ".pub"))
        {
            File.Delete(path);
            await Command.RunAsync(
                "ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "pandora", "-f", path], cancellationToken: cancellationToken);
        }

        return new ClientKey(new PrivateKeyFile(path), (await File.ReadAllTextAsync(path + ".pub", cancellationToken)).Trim());
    }

    /// <inheritdoc/>
    public void Dispose() => PrivateKey.Dispose();
}
