using Pandora.Linux;
using Renci.SshNet;

namespace Pandora.Engine.Guests;

/// <summary>The SSH key pair by which guests recognise this server. It is made on first use, and only root can read it.</summary>
public sealed class ClientKey : IDisposable
{
    private ClientKey(PrivateKeyFile privateKey, string publicLine)
    {
        PrivateKey = privateKey;
        PublicLine = publicLine;
    }

    /// <summary>The private key, for the SSH client.</summary>
    public PrivateKeyFile PrivateKey { get; }

    /// <summary>The public key, as a line of <c>authorized_keys</c>.</summary>
    public string PublicLine { get; }

    /// <summary>Loads the key pair of a data directory, and makes one first if there is none.</summary>
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

        var publicLine = (await File.ReadAllTextAsync(path + ".pub", cancellationToken)).Trim();
        return new ClientKey(new PrivateKeyFile(path), publicLine);
    }

    /// <inheritdoc/>
    public void Dispose() => PrivateKey.Dispose();
}
