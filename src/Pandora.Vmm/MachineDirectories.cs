using Pandora.Vmm.Firecracker;

namespace Pandora.Vmm;

/// <summary>What VMMs keep of machines besides their run directories, whichever VMM runs now: the operator may have changed it.</summary>
public static class MachineDirectories
{
    /// <summary>Paths of the sockets in one machine's. What its VMM has put in the place of one, such as a link, is none.</summary>
    public static IReadOnlyList<string> SocketsIn(string directory) => FirecrackerJail.SocketsIn(directory);

    /// <summary>Removes those of all machines but some. What ran in the others has ended.</summary>
    /// <param name="parent">Where a directory of each VMM's holds them, each named as its machine.</param>
    /// <param name="living">Ids of the machines whose directories stay.</param>
    public static void RemoveOrphans(string parent, IReadOnlySet<string> living) => FirecrackerJail.RemoveAll(parent, living);
}
